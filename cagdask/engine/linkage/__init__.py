"""Groups merged that are proven to be nearest to each other.

average     the loop: order, search, merge, until nothing is left to join
components  connected components of the lists, in batches that are merged on their own
merging     reciprocal nearest groups that the neighbor lists prove, merged
single      the same lists, joined by nearest member
refinement  groups whose mean directions are close, joined
noise_correction, corrected_joining  groups that are one once noise is taken out, joined
tree        merge table, cut, labels
"""
