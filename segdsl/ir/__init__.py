"""The intermediate representation: frozen records that hold a checked program, without torch."""
