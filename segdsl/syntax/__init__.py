"""Text to tree: lexer, parser, tree and the printer behind `fmt`. Knows nothing of what the words mean."""
