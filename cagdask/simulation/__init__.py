"""Simulated cohorts with planted genomes, as sample files or as a store."""
