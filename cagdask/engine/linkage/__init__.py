"""Groups merged that are proven to be nearest to each other.

average     the loop: order, search, merge, until nothing is left to join
rounds      what a round of linkage or refinement does first: order the rows, list the nearest
components  connected components of the lists, in batches that are merged on their own
merging     the batches of a round, merged
reciprocal  reciprocal nearest groups that the neighbor lists prove, merged: compiled
single      the same lists, joined by nearest member
refinement  groups whose mean directions are close, joined; its table in refinement_table
noise_correction, corrected_joining  groups that are one once noise is taken out, joined
tree        merge table, cut, labels
"""
