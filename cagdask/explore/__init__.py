"""A result to walk through in a browser: from a gene to its CAG, its neighbors, its samples, and other thresholds.

    session   answers to every question the page asks, from the Zarr store, read when first needed
    app       the page: Panel and Bokeh, served to this machine alone unless told otherwise

A session holds the labels of the genes, the merge tree, and the names; profiles of CAGs are read row by row. That is
about 100 bytes per gene, and 4 bytes per CAG of two genes or more and sample once neighbors are asked for.
"""
