"""Syntax highlighting and the language reference, generated from the lexer and the registry of words."""
