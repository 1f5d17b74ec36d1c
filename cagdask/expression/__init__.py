"""Expression compendia: made comparable over samples, and measured gene by gene.

lengths      length of each gene, from an annotation or a table
kernels      depth, size factors and quantiles of a block in memory
sort_kernel  the compiled sort of samples
tasks        the same by tasks on the workers: a table is turned into tiles where whole samples are needed
request      what a normalization is asked to do, checked before any value is read
stages       its stages, in a work folder
normalizing  the library call

measures       percentile, signal, specificity of rows in memory
measure_tasks  the two passes that measure genes, by tasks on the workers
measuring      the library call
"""
