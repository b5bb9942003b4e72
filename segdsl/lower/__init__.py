"""Lowering from the IR to torch: fx graphs, modules for the ops, freezing, and emission of plain PyTorch."""
