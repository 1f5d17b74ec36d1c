"""Simulated cohorts with planted genomes: the model, and writing it as samples or as a store."""
