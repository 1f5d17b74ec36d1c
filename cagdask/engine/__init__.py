"""Exact linkage of millions of rows, out of core.

    rows/      store rows -> unit profiles, identical ones folded; profiles in files; sums over groups of rows
    search/    for every row its k nearest, and a bound on all others
    linkage/   reciprocal nearest groups merged, round by round; refinement; merge tree
    plan/      memory of each kind of task, and the cost to expect

Tasks hand arrays to each other through :mod:`cagdask.storage.arrays`; the driver only sees counts.
"""
