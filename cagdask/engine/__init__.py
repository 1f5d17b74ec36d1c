"""Exact linkage of millions of rows, out of core.

    profiles   store rows -> unit profiles; identical ones folded
    rows       profiles in files, dense or sparse
    sketches   short vectors whose products bound those of rows
    pivots     directions around which rows lie
    chunks     rows rewritten in (pivot, angle) order, chunk by chunk
    neighbors  for every row its k nearest, and a bound on all others
    approximate  the k nearest that are easily found, and how many that are
    merging    reciprocal nearest groups joined as far as the lists prove it
    linkage    the loop of these until nothing is left to join
    single     the same lists, joined by nearest member
    refinement groups whose mean directions are close, joined
    tree       merge table, cut, labels

Tasks hand arrays to each other through :mod:`cagdask.engine.arrays`; the driver only sees counts.
"""
