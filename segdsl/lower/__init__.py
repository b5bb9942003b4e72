"""IR to torch: the fx graph, the modules behind its ops, and files of weights."""
