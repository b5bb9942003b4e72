"""Compilation from syntax tree to IR: files, settings, elaboration, and checks of the whole program."""
