"""Samples made comparable: methods on blocks, per-sample statistics, and both on lazy Dask arrays."""
