"""Questions about labelled samples: which features differ between groups.

reading      labels and covariates of samples, from a metadata column or a table
statistics   tests of a block of features, in memory
sets         labels as sets: one or several per sample, from folders of lists, tables, metadata
judging      which labels can be learned
design       what is asked: groups, pairs, cohorts, model matrix
association  the library call: blocks by tasks, false discovery rate, table and picture
classification   learn labels from features, and give them to new samples
"""
