"""Two-pass clustering: cluster a sample of the items in memory, then label every item by its nearest representative.

    source --every n-th item--> sample --condensed distances, linkage, cut--> clusters --> leaders
       |                                                                                      |
       +--block by block--> distances to the leaders --> label, distance, margin of every item

The sample must fit one worker, the source need not. The modules, in the order of the data:

========================== =============================================================
:mod:`.sources`            what is clustered: rows of a store, of Parquet, frames
:mod:`.trajectories`       frames, read with mdtraj
:mod:`.distances`          the metrics: rows made ready, distances among them, the nearest
:mod:`.sample`             the first pass, and the leaders
:mod:`.labels`             the second pass
:mod:`.pictures`           dendrogram, distances, sizes
:mod:`.checks`             what is asked: defaults, and what is refused
:mod:`.stages`             both passes as stages of one work folder
:mod:`.two_pass`           the public functions
========================== =============================================================

References
----------
.. [1] Hartigan (1975). Clustering Algorithms, chapter 3: leader algorithms.
"""
