"""Tree to IR: files and their names, merging, elaboration, and what a whole program is held against."""
