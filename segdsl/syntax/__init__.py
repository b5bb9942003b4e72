"""Source text to syntax tree: lexer, parser, tree, and the printer behind `segdsl fmt`. Decides no meaning."""
