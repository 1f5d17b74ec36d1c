"""One table of genes × samples: its formats, its orientation, and reading it in parts."""
