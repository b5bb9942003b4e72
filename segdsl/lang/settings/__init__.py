"""Settings of all files and options: merged, overridden, and read section by section."""
