"""A result to walk through in a browser: from a gene to its CAG, its neighbors, its samples, and other thresholds.

    session       answers to every question the page asks, from the Zarr store, read when first needed
      gene_names      names, searched while one types
      gene_vectors    profiles of all genes in memory: similar genes, analogies
      subtree         the merges of one CAG, cut at any distance
      cag_map         all CAGs and genes in a plane
    views         what the page shows, as tables with a name, and the command that writes each
      drawings        the same as pictures in files
    page          widgets, and what each of them changes; figures has the pictures in the browser
      parts         tables, downloads and tabs that are made once and filled anew
    app           serving the page to this machine alone unless told otherwise; writing one view as a file

A session holds about 100 bytes per gene for labels, merge tree and names, one byte per gene and sample for similar
genes, and 4 bytes per CAG of two genes or more and sample once neighbors are asked for.
"""
