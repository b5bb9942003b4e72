"""The intermediate representation: frozen records of a checked program, without torch."""
