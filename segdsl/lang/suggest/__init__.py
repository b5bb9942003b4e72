"""Suggestions in error messages: what to write instead."""
