"""Which column names the rows, which hold values, and which describe the rows: one rule for every format.

    names the rows   the column asked for; one with a known name; the index that pandas kept; the only text column; the
                     first. A column of bare row numbers is none of these where another one is
    describes them   columns asked for; those of known tools (Chr, Length, taxonomy, …); text beside genes
    values           all others

Columns that are plainly no values are never taken for some: they are named, all at once, with the option to give.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from cagdask.errors import InputError
from cagdask.io.tables.reading import Reading

GENE_NAMES = (
    "gene_id", "geneid", "gene id", "gene", "genes", "#otu id", "otu id", "otuid", "feature id", "feature_id",
    "featureid", "#feature id", "feature-id", "clade_name", "# gene family", "gene family", "# pathway", "contigname",
    "contig", "genome", "target_id", "gene_name", "index", "id", "#id", "name", "",
)  # fmt: skip
SAMPLE_NAMES = (
    "sample_id", "sampleid", "sample id", "sample", "samples", "#sampleid", "sample_name", "sample-id", "specimen",
    "group", "index", "id", "",
)  # fmt: skip
PANDAS_INDEX = "__index_level_0__"
_ROW_NUMBERS = re.compile(r"(unnamed: \d+|__index_level_\d+__|level_0|)", re.IGNORECASE)
_COUNTED = re.compile(
    r"(\.\.\.\d+|x|v1|rn|rownames?|row[._ ]?(names?|numbers?|ids?|nr|no)?|#|nr\.?|no\.?|n|s/?no\.?|)", re.IGNORECASE
)
"""Headers of row numbers where the cells do count the rows: those of readr, read.csv, data.table, and of people."""
GENE_FIELDS = {
    "length": "length", "gene_length": "length", "genelength": "length", "contiglen": "length", "width": "width",
    "effectivelength": "effective_length", "effective_length": "effective_length", "eff_length": "effective_length",
    "chr": "chromosome", "chrom": "chromosome", "chromosome": "chromosome", "seqnames": "chromosome", "start": "start",
    "end": "end", "strand": "strand", "description": "description", "gene_description": "description",
    "symbol": "symbol", "gene_symbol": "symbol", "taxonomy": "taxonomy", "#otu taxonomy": "taxonomy",
    "consensus lineage": "taxonomy", "consensuslineage": "taxonomy", "taxon": "taxonomy", "lineage": "taxonomy",
    "ncbi_tax_id": "ncbi_tax_id", "clade_taxid": "ncbi_tax_id", "gene_biotype": "biotype", "biotype": "biotype",
    "gene_type": "biotype", "totalavgdepth": "total_depth", "transcript_id(s)": "transcripts",
    "additional_species": "additional_species", "gene_name": "symbol", "gene name": "symbol",
    "taxonomy_id": "ncbi_tax_id", "taxonomy_lvl": "rank", "taxid": "ncbi_tax_id", "taxrank": "rank",
    "genomesize": "genome_size",
}  # fmt: skip
"""Columns of known tools that are about genes, in small letters, and what they are stored as."""
SAMPLE_FIELDS = {"label": "label", "numotus": "numOtus"}
"""The same of tables with samples in rows."""
_NOT_FEATURES = re.compile(
    r"(?i)(age|bmi|sex|gender|weight|height|width|length|eff_length|batch|visit|timepoint|time|day|days|week|month|year|"
    r"replicate|subject|patient|host_age|age_years|age_.*|library_size|n_reads|reads|read_count|total_reads|depth|"
    r"sequencing_depth|ph|temperature|latitude|longitude|elevation|start|end|n_genes|n_counts|percent_mito|total_counts|"
    r"totals?|grand total|sum)"
)
_NOT_SAMPLES = re.compile(
    r"(?i)((grand|row)[ _]total|totals?|sum|mean|average|median|std|size|"
    r"basemean|(avg_)?(log2?fc|log2?[ _.]?fold[ _.]?change)|lfcse|stat|aveexpr|"
    r"(adj[ _.]?)?p[ _.]?val(ue)?(s|[ _.]adj)?|padj|fdr|q[ _.]?val(ue)?s?)"
)
_MEASURE = re.compile(
    r"(?i).+[ _](trimmed mean|mean|relative abundance \(%\)|covered bases|covered fraction|variance|length|read count|"
    r"reads per base|rpkm|tpm|num|frac)"
)
"""Ends of columns where a tool writes several measures of each sample: CoverM, Bracken."""
_MEASURE_FIRST = re.compile(r"(?i)(abundance|counts|length|infReps|tpm|[fr]pkm|cpm|variance)[._ ].+")
"""Their beginnings: tximport's list, written as one table."""
_BARE_MEASURE = re.compile(
    r"(?i)tpm|[fr]pkm|cpm|coverage|(est|raw|read|expected)?[ _]?counts?|num(unique)?reads|abundance|isopct|"
    r"fpkm_conf_(lo|hi)|cov|depth|trimmed mean|variance|relative abundance \(%\)|rpk"
)
"""Columns of a table of one sample that hold its measures: StringTie, Cufflinks, Centrifuge."""
_OF_BOTH = ("index", "id", "name", "group", "")
_LONG = 6  # columns of a table in long form, at most
_SHOWN = 12


@dataclass
class Labels:
    """What the columns of a table are, by their places.

    Attributes
    ----------
    ids
        The column that names the rows.
    values
        Columns of values.
    fields
        Columns that describe the rows.
    dropped
        Columns that are nothing: row numbers, empty ones.
    notes
        What was taken for granted.
    """

    ids: int
    values: list[int]
    fields: list[int]
    dropped: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def label_columns(
    url: str,
    names: list[str],
    kinds: list[str],
    reading: Reading,
    *,
    genes_in_rows: bool,
    numbered: frozenset[int] = frozenset(),
    repeated: frozenset[int] = frozenset(),
    index: str | None = None,
) -> Labels:
    """Decide what each column is.

    Parameters
    ----------
    url
        For messages.
    names
        Headers.
    kinds
        ``number``, ``integer``, ``text`` or ``empty``, one each.
    reading
        What was asked for.
    genes_in_rows
        Whether the rows are genes.
    numbered
        Columns whose cells count the rows.
    repeated
        Columns with a cell that occurs twice: these name no rows.
    index
        The index that pandas kept in the file, if it has a name.

    Raises
    ------
    InputError
        A column asked for is not there or occurs twice; columns can not be values.
    """
    _check_asked(url, names, reading)
    apart = {names.index(name) for name in reading.metadata_columns}
    ids = _id_column(names, kinds, reading, genes_in_rows, numbered, repeated, index, apart)
    found = Labels(ids, [], [])
    known = GENE_FIELDS if genes_in_rows else SAMPLE_FIELDS
    suspects: list[int] = []
    _check_long(url, names, kinds, repeated, apart)
    for i, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        low = name.strip().lower()
        if i == ids:
            continue
        if i in apart:
            found.fields.append(i)
        elif name in reading.keep_columns:
            found.values.append(i)
        elif _is_row_number(low, kind, i, numbered) or (not low and kind == "empty"):
            found.dropped.append(i)
        elif reading.value_column is not None:
            (found.values if name == reading.value_column else found.fields).append(i)
        elif low in known or (low.endswith("-var") and "contigname" in names[ids].lower()):
            found.fields.append(i)
        elif kind == "text" or (kind != "empty" and (_NOT_SAMPLES if genes_in_rows else _NOT_FEATURES).fullmatch(low)):
            suspects.append(i)
        else:
            found.values.append(i)
    if len(suspects) == 1 and kinds[suspects[0]] != "text" and not found.values and genes_in_rows:
        found.values, suspects = suspects, []  # a single column is what it is
    if genes_in_rows:
        _check_measures(url, [names[i] for i in found.values])
    if suspects:
        _refuse(url, [names[i] for i in suspects], [kinds[i] for i in suspects], genes_in_rows)
    if not found.values:
        raise InputError(f"{url}: no column holds values (it has {_listed(names)}). Name them with `keep_columns`.")
    return found


def _check_asked(url: str, names: list[str], reading: Reading) -> None:
    """Refuse two columns of one name, and options that name none."""
    first = next((name for name, n in Counter(names).items() if n > 1 and name), None)
    if first is not None:
        raise InputError(f"{url}: column {first!r} occurs more than once. Give each column its own name.")
    for option, asked in (
        ("gene_column", (reading.gene_column,) if reading.gene_column is not None else ()),
        ("metadata_columns", reading.metadata_columns),
        ("keep_columns", reading.keep_columns),
        ("value_column", (reading.value_column,) if reading.value_column is not None else ()),
    ):
        missing = [name for name in asked if name not in names]
        if missing:
            raise InputError(f"{url}: `{option}` names {missing[0]!r}, and the table has {_listed(names)}.")


def _is_row_number(low: str, kind: str, i: int, numbered: frozenset[int]) -> bool:
    if kind not in ("integer", "number"):
        return False
    counted = i in numbered and (not low or (i == 0 and bool(_COUNTED.fullmatch(low))))
    return counted or bool(low and _ROW_NUMBERS.fullmatch(low))


def _id_column(
    names: list[str], kinds: list[str], reading: Reading, genes_in_rows: bool, numbered: frozenset[int],
    repeated: frozenset[int], index: str | None, apart: set[int],
) -> int:  # fmt: skip
    if reading.gene_column is not None:
        return names.index(reading.gene_column)
    lowered = [name.strip().lower() for name in names]
    usable = [i for i in range(len(names)) if i not in apart and kinds[i] in ("text", "integer")]
    counts = [i for i in usable if _is_row_number(lowered[i], kinds[i], i, numbered)]
    plain = [i for i in usable if i not in counts]
    known = GENE_NAMES if genes_in_rows else SAMPLE_NAMES
    if plain and lowered[0] in known and plain[0] == 0:
        return 0
    for name in known:
        if name and name in lowered and lowered.index(name) in plain:
            return lowered.index(name)
    if index in names and names.index(index) in plain:
        return names.index(index)
    fields = GENE_FIELDS if genes_in_rows else SAMPLE_FIELDS
    if PANDAS_INDEX in names and kinds[names.index(PANDAS_INDEX)] == "text":
        return names.index(PANDAS_INDEX)
    texts = [i for i in plain if kinds[i] == "text" and i not in repeated and lowered[i] not in fields]
    if 0 in texts:
        return 0
    if len(texts) == 1 and (0 not in plain or kinds[0] != "integer" or genes_in_rows):
        return texts[0]
    if PANDAS_INDEX in names:
        return names.index(PANDAS_INDEX)
    return 0


def _refuse(url: str, names: list[str], kinds: list[str], genes_in_rows: bool) -> None:
    listed = ",".join(names)
    shown = ", ".join(map(repr, names[:_SHOWN])) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    what = "samples" if genes_in_rows else "genes"
    text = sum(kind == "text" for kind in kinds)
    one = what.removesuffix("s")
    why = "not numbers" if text == len(names) else f"not numbers, or are named as no {one} is" if text else ""
    if not why:
        why = f"numbers, but named as no {one} is"
    numbers = [name for name, kind in zip(names, kinds, strict=True) if kind != "text"]
    keep = f" If {numbers[0]!r} is one, name it with `keep_columns`." if numbers else ""
    raise InputError(
        f"{url}: {len(names)} of its columns hold what is {why}, so they are no {what}: {shown}. Keep them beside the "
        f"values, as metadata, with `metadata_columns={listed!r}`.{keep}"
    )


def _check_long(url: str, names: list[str], kinds: list[str], repeated: frozenset[int], apart: set[int]) -> None:
    """Refuse tables with a row for each gene of each sample."""
    lowered = [name.strip().lower() for name in names]
    plain = [i for i in range(len(names)) if i not in apart and kinds[i] in ("text", "integer")]
    genes, samples = (
        next((i for i in plain if lowered[i] in known and lowered[i] not in _OF_BOTH), None)
        for known in (GENE_NAMES, SAMPLE_NAMES)
    )
    if genes is None or samples is None or not {genes, samples} & repeated or len(names) > _LONG:
        return
    raise InputError(
        f"{url}: has a row for each gene of each sample (columns {names[genes]!r} and {names[samples]!r}). Write a "
        f"table with a column for each sample; in pandas: table.pivot(index={names[genes]!r}, "
        f"columns={names[samples]!r}, values=...).fillna(0).to_csv(..., sep='\\t')."
    )


def _check_measures(url: str, names: list[str]) -> None:
    """Refuse tables that hold several measures of each sample, or of their only one."""
    if len(names) > 1 and all(map(_BARE_MEASURE.fullmatch, names)):
        best = next((n for kind in ("tpm", "fpkm", "rpkm", "abundance") for n in names if n.lower() == kind), names[0])
        raise InputError(
            f"{url}: has several measures of one sample ({_listed(names)}). Choose one, such as "
            f"`value_column={best!r}`; for more samples, name a sheet or a folder of such files."
        )
    found = {
        name: match[1].lower()
        for name in names
        if (match := _MEASURE.fullmatch(name) or _MEASURE_FIRST.fullmatch(name))
    }
    measures = list(dict.fromkeys(found.values()))
    if len(measures) > 1 and len(found) == len(names):
        others = ",".join(name for name in names if found[name] != measures[0])
        raise InputError(
            f"{url}: has several measures of each sample ({', '.join(measures)}). To take {measures[0]!r}, keep the "
            f"others beside the values, as metadata, with `metadata_columns={others!r}`."
        )


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")


def field_name(name: str, *, of_genes: bool) -> str:
    """What a column about genes or samples is stored as, after ``gene_`` or ``sample_``."""
    known = (GENE_FIELDS if of_genes else SAMPLE_FIELDS).get(name.strip().lower())
    plain = known or re.sub(r"\W+", "_", name.strip()).strip("_") or "unnamed"
    prefix = "gene_" if of_genes else "sample_"
    return plain.removeprefix(prefix) or "unnamed"
