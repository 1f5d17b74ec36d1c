"""Whether a table lies the way its reader believes: genes in rows, or samples in rows.

Shape and names decide together. A cohort has far more genes than samples, so a table that is far wider than long, read
as genes in rows, is suspect; it is refused when the names or a very large width agree. A first column that is called
``gene_id`` (or ``gene``, ``sample_id`` …) settles the matter.
"""

from __future__ import annotations

import re

from cagdask.errors import InputError

_RATIO = 5  # this many times more of one than of the other is far more
_MANY = 1000  # columns that no cohort has by chance
_SOME = 20  # shorter rows prove nothing, whatever the names
_GENE = re.compile(
    r"(?i)^(ens[a-z]*[gtp]\d+|gene|genes?[-_. ]?\w*\d|otu|asv|cog\d|k\d{5}|pf\d{5}|uniref|contig|msp_|cag|\d+$)"
)
_SAMPLE = re.compile(
    r"(?i)^(sample|subject|patient|donor|specimen|case|control|[sed]rr\d|sam[nead]|gsm\d|tcga-|prism_)"
)
_SETTLES = {
    True: ("gene", "gene_id", "geneid", "gene id", "genes", "gene_name"),
    False: ("sample_id", "sampleid", "sample id", "samples", "sample_name"),
}
_SAMPLE_ROWS = ("sample", "#sampleid", "sample-id", "specimen", *_SETTLES[False])
"""Headers of samples in rows, where there are also more columns than rows: some write the corner for the columns."""


def check_orientation(url: str, id_name: str, rows: list[str], n_rows: int, columns: list[str], orient: str) -> None:
    """Refuse a table that seems to lie the other way.

    Parameters
    ----------
    url, orient
        For the message; what the user asked for.
    id_name
        Header of the row names.
    rows
        The first row names, up to a thousand.
    n_rows
        Number of rows.
    columns
        Names of the value columns.

    Raises
    ------
    InputError
        It does. Says so by the shape and one name of each, and names the option.
    """
    genes_in_rows = orient == "genes-by-samples"
    header = id_name.strip().lower()
    if header in _SETTLES[genes_in_rows]:
        return
    n_genes, n_samples = (n_rows, len(columns)) if genes_in_rows else (len(columns), n_rows)
    genes, samples = (rows, columns) if genes_in_rows else (columns, rows)
    is_named = genes_in_rows and header in _SAMPLE_ROWS and n_samples > n_genes
    if not is_named and (n_genes * _RATIO >= n_samples or n_samples < _SOME):
        return
    names_agree = (
        _share(_GENE, samples) > _share(_GENE, genes) + 0.5 or _share(_SAMPLE, genes) > _share(_SAMPLE, samples) + 0.5
    )
    if not is_named and not names_agree and n_samples < _MANY and header not in _SETTLES[not genes_in_rows]:
        return
    other = "samples-by-genes" if genes_in_rows else "genes-by-samples"
    raise InputError(
        f"{url}: read as {orient} this is {n_genes:,} genes (such as {genes[0]!r}) in {n_samples:,} samples (such as "
        f"{samples[0]!r}), which looks like samples taken for genes. Use `orient={other!r}`; if it is right as it is, "
        f"call the first column {'gene_id' if genes_in_rows else 'sample_id'}."
    )


def _share(pattern: re.Pattern[str], names: list[str]) -> float:
    tested = names[:1000]
    return sum(bool(pattern.match(name)) for name in tested) / max(1, len(tested))
