"""Groups merged that are proven to be nearest to each other.

average     the loop: order, search, merge, until nothing is left to join
rounds      what a round of linkage or refinement does first: order the rows, list the nearest
components  connected components of the lists, in batches that are merged on their own
merging     the batches of a round, merged
reciprocal  reciprocal nearest groups that the neighbor lists prove, merged: compiled
links       lists of the groups that each may join
single      the same lists, joined by nearest member
refinement  groups whose mean directions are close, joined; its table in refinement_table
noise_correction   when two groups are one, noise taken out
corrected_joining  the rounds in which such groups are joined; corrected_links does them with pairs listed once
attaching          small groups put to larger ones
tree        merge table, cut, labels
"""
