"""Pairs of genes that are to each other as another pair is."""
