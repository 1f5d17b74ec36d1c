"""Latent factors: a non-negative matrix as a few programs, each with a loading per gene and a value per sample.

    matrix  -->  survey  -->  sketch  -->  solve in memory  -->  exact refit  -->  files
                 pass 1       2, 3, 4      (no pass)             5

A module here is one step of that; :mod:`cagdask.factors.factorization` puts them in order.
"""
