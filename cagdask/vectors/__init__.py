"""Vectors of genes: which are alike, and which pairs of them are analogous.

    store --sources--> rows of vectors --kernels--> scores --ranking--> the k best --tables, pictures--> files

Whatever has a vector per gene answers: profiles, embeddings, loadings of a factorization, means of CAGs. All answers
are exact: what is searched in float32 is decided in float64, and equal scores are ordered by row.
"""
