"""From a data set to the program that fits it: what is measured, what follows from it, and how that is written down."""
