"""Files on disk: atomic writes, caches and file states."""
