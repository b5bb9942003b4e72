"""Generation of a program from a dataset: measuring the data, making the choices, writing the program."""
