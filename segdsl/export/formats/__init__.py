"""The writers of the exporter words, one module for each format."""
