"""Syntax errors: what was most likely meant, and where parsing resumes."""
