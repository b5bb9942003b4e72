"""The formatter: a syntax tree printed as source text."""
