"""Nearest neighbors of every row, exactly.

sketches       short vectors whose products bound those of rows
pivots         directions around which rows lie
chunks         rows rewritten in (pivot, angle) order, chunk by chunk
tiles          which tiles of two chunks can be near each other: compiled
kernels        rows of two chunks compared and listed: compiled
neighbors      for every row its k nearest, and a bound on all others
approximate    the k nearest that are easily found, and how many that are
nearest_group  the nearest of some groups, for every row
"""
