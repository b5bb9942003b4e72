"""Settings of all files and options: merging, overrides, and conversion to sections."""
