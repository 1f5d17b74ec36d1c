"""Rows of the engine: unit profiles made from a store, how they lie in files, and sums over groups of them."""
