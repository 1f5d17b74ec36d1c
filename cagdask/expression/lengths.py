"""Length of each gene in base pairs, from a GTF or GFF annotation or from a table.

    longest-transcript   exons of each transcript added up, the longest transcript of the gene
    union-exon           bases that lie in any exon of the gene
    genomic-span         end - start of the longest transcript, introns and all (as the scripts of ARCHS4 have it)

Positions of an annotation begin at 1 and include both ends, so an exon has end - start + 1 bases.
"""

from __future__ import annotations

import gzip
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cagdask import storage
from cagdask.errors import InputError
from cagdask.io.gene_matching import without_version

RULES = ("longest-transcript", "union-exon", "genomic-span")
_TABLES = (".tsv", ".csv", ".txt")
_ANNOTATIONS = (".gtf", ".gff", ".gff3")
_GTF_PAIR = re.compile(r'(\w+) "([^"]*)"')
Spans = list[tuple[int, int]]


@dataclass(frozen=True)
class _Transcript:
    """Where a transcript's exons lie, by chromosome and strand."""

    genes: tuple[str, ...]
    exons: dict[str, Spans]
    spans: Spans


def read_lengths(url: str, rule: str = "longest-transcript", column: str | None = None) -> dict[str, int]:
    """Read the length of every gene of an annotation or table.

    Parameters
    ----------
    url
        ``.gtf``, ``.gff`` or ``.gff3``, or a table (``.tsv``, ``.csv``, ``.txt``) with gene names in its first column;
        each also with ``.gz``.
    rule
        One of :data:`RULES`; for annotations.
    column
        Column of a table with lengths in base pairs; by default the one called ``length`` or ``width``, in any case.
        A gene with several rows gets the largest.

    Returns
    -------
    dict
        Length in base pairs by gene id, without Ensembl's version, and by symbol where the annotation has one.

    Raises
    ------
    InputError
        The file is missing, of an unknown format, has no exons or no lengths; or a length is below 1.
    ValueError
        The rule is not known.
    """
    if rule not in RULES:
        raise ValueError(f"`length_rule` is {rule!r}; choose one of {', '.join(RULES)}.")
    name = storage.name_of(url).lower().removesuffix(".gz")
    if not storage.exists(url):
        raise InputError(f"{url}: no such file of gene lengths. Check the path.")
    if name.endswith(_TABLES):
        return _of_table(url, column)
    if not name.endswith(_ANNOTATIONS):
        raise InputError(f"{url}: of unknown format. Gene lengths come from {', '.join(_ANNOTATIONS + _TABLES)} [.gz].")
    if column is not None:
        raise ValueError("a column of lengths is for tables, not for annotations. Leave it out.")
    found = _of_annotation(url, rule)
    if not found:
        raise InputError(f"{url}: has no exons of any gene, so nothing says how long genes are. Check the file.")
    return found


def _lines(url: str) -> Iterator[str]:
    data = storage.read_bytes(url)
    if data[:2] == b"\x1f\x8b":
        with gzip.open(io.BytesIO(data), "rt") as handle:
            yield from handle
    else:
        yield from io.StringIO(data.decode())


def _of_table(url: str, column: str | None) -> dict[str, int]:
    lines = _lines(url)
    first = next(lines, "").rstrip("\r\n")
    mark = "," if "," in first and "\t" not in first else "\t"
    header = first.split(mark)
    wanted = {column} if column is not None else {name for name in header if name.lower() in ("length", "width")}
    places = [i for i, name in enumerate(header) if name in wanted]
    if len(places) != 1:
        raise InputError(
            f"{url}: has {len(places)} columns of lengths among {', '.join(header[:8])}. Name one with `length_column`."
        )
    found: dict[str, int] = {}
    shift = 0
    for number, line in enumerate(lines, start=2):
        cells = line.rstrip("\r\n").split(mark)
        if number == 2:  # R writes one name fewer than there are columns
            shift = len(cells) - len(header)
        try:
            length = float(cells[places[0] + shift])
        except (IndexError, ValueError) as err:
            raise InputError(f"{url}: line {number} has no length in {header[places[0]]!r}. Correct it.") from err
        if not 1 <= length < 2**53:
            raise InputError(f"{url}: line {number}: gene {cells[0]!r} has length {length:g}. It must be 1 bp or more.")
        gene = without_version(cells[0])
        found[gene] = max(found.get(gene, 0), round(length))
    if not found:
        raise InputError(f"{url}: has a header and no genes. Check the file.")
    return found


def _of_annotation(url: str, rule: str) -> dict[str, int]:
    transcripts = _transcripts(url)
    found: dict[str, int] = {}
    union: dict[tuple[str, str], Spans] = defaultdict(list)
    for one in transcripts:
        if rule == "union-exon":
            for place, exons in one.exons.items():
                for gene in one.genes:
                    union[gene, place] += exons
            continue
        length = max((b - a for a, b in one.spans), default=0) if rule == "genomic-span" else _bases(one)
        for gene in one.genes if length else ():
            found[gene] = max(found.get(gene, 0), length)
    for (gene, _), exons in union.items():
        found[gene] = found.get(gene, 0) + union_length(exons)
    return found


def _bases(one: _Transcript) -> int:
    return sum(b - a + 1 for exons in one.exons.values() for a, b in exons)


def union_length(spans: Iterable[tuple[int, int]]) -> int:
    """Bases in any of some spans, both ends included.

    >>> union_length([(1, 10), (5, 12), (20, 20)])
    13
    """
    total, reached = 0, 0
    for begin, end in sorted(spans):
        total += max(0, end - max(begin - 1, reached))
        reached = max(reached, end)
    return total


def _transcripts(url: str) -> list[_Transcript]:
    """Every transcript with its genes' names: id and symbol."""
    found: dict[str, _Transcript] = {}
    parents: dict[str, tuple[str, str]] = {}  # of GFF3: transcript -> gene; gene -> its names
    for number, line in enumerate(_lines(url), start=1):
        if line.startswith("#") or not line.strip():
            continue
        cells = line.rstrip("\r\n").split("\t")
        try:
            place, kind, span, said = cells[0] + cells[6], cells[2], (int(cells[3]), int(cells[4])), cells[8]
        except (IndexError, ValueError) as err:
            raise InputError(f"{url}: line {number} is no line of an annotation (nine columns, tabs).") from err
        if '"' in said:
            pairs = dict(_GTF_PAIR.findall(said))
            ids, genes = [pairs.get("transcript_id", "")], _names(pairs.get("gene_id"), pairs.get("gene_name"))
        else:
            pairs = dict(part.strip().partition("=")[::2] for part in said.split(";") if "=" in part)
            own, parent = pairs.get("ID", ""), pairs.get("Parent", "")
            parents[own] = (parent, pairs.get("Name") or pairs.get("gene_name") or "")
            ids, genes = (parent.split(",") if kind == "exon" else [own]), ()
        for one in ids:
            if not one or kind not in ("exon", "transcript", "mRNA"):
                continue
            known = found.setdefault(one, _Transcript(genes, defaultdict(list), []))
            if kind == "exon":
                known.exons[place].append(span)
            else:
                known.spans.append(span)
    return [one if one.genes else _with_parents(name, one, parents) for name, one in found.items()]


def _with_parents(name: str, one: _Transcript, parents: dict[str, tuple[str, str]]) -> _Transcript:
    gene = parents.get(name, ("", ""))[0]
    symbol = parents.get(gene, ("", ""))[1]
    return _Transcript(_names(gene.removeprefix("gene:"), symbol), one.exons, one.spans)


def _names(gene: str | None, symbol: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(without_version(name) for name in (gene, symbol) if name))
