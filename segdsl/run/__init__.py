"""Training and evaluation of a checked program, and the folder that a run leaves."""
