"""Remedies: what to write instead of what does not check."""
