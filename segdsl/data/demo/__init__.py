"""The generated demo dataset."""
