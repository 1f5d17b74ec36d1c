"""Embeddings: a vector per gene, and descriptions of genes."""
