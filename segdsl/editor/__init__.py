"""What editors and pages need of the language: highlighting and the reference, derived from lexer and registry."""
