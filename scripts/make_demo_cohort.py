#!/usr/bin/env python3
"""Turn a tab-separated table of taxon counts into find-cags' format: how demo/ was made.

    scripts/make_demo_cohort.py taxatable.txt demo

The table has one taxon a row and one sample a column. Each sample becomes ``samples/NAME.json.gz``, a dict with one
list, ``results``, of ``{"id": ..., "depth": ...}``; zeros are left out. ``sample_sheet.json`` names them all, by paths
relative to itself. The same table always gives the same bytes.
"""

import csv
import gzip
import io
import json
import sys
from collections import Counter
from pathlib import Path

UNCLASSIFIED = "unclassified"
"""Name for the table's one row without a lineage."""


def short_names(lineages: list[str]) -> list[str]:
    """The last rank of each lineage, without its prefix; the whole lineage where that is not unique."""
    short = [lineage.split(";")[-1].split("__", 1)[-1] for lineage in lineages]
    seen = Counter(short)
    names = (name if seen[name] == 1 else lineage for name, lineage in zip(short, lineages, strict=True))
    return [name or UNCLASSIFIED for name in names]


def gz(text: str) -> bytes:
    """Compressed text, without a time stamp or a name in its header."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, mtime=0, fileobj=buffer) as handle:
        handle.write(text.encode())
    return buffer.getvalue()


def main(table: str, folder: str) -> None:
    opened = gzip.open(table, "rt") if table.endswith(".gz") else open(table)
    with opened as handle:
        header, *rows = csv.reader(handle, delimiter="\t")
    genes = short_names([row[0] for row in rows])
    samples = Path(folder, "samples")
    samples.mkdir(parents=True, exist_ok=True)
    sheet = {}
    for column, sample in sorted(enumerate(header[1:], start=1), key=lambda pair: pair[1]):
        counts = ((gene, int(row[column])) for gene, row in zip(genes, rows, strict=True))
        records = sorted((gene, count) for gene, count in counts if count)
        lines = ",\n".join(json.dumps({"id": gene, "depth": count}) for gene, count in records)
        name = f"samples/{sample}.json.gz"
        Path(folder, name).write_bytes(gz(f'{{"results": [\n{lines}\n]}}\n'))
        sheet[sample] = name
    Path(folder, "sample_sheet.json").write_text(json.dumps(sheet, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
