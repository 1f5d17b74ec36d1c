"""However a table of text is laid out, the store is that of the plain TSV."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import cagdask
from tests.inline_runner import InlineRunner

SEPARATORS = ["\t", ",", ";", "|", " "]
GENE_HEADERS = ["gene_id", "gene", "Geneid", "#OTU ID", "Feature ID", "clade_name", "ORF", ""]
SAMPLE_HEADERS = ["sample_id", "SampleID", "#SampleID", "specimen", ""]
EXTRAS = {
    "Length": ["900", "1200", "330"], "Chr": ["c1", "c1", "c2"], "taxonomy": ["k__A; g__B", "k__A; g__C", "k__D"],
    "site": ["gut", "gut", "soil"], "kegg number": ["K1", "K2", "K2"], "share": ["12%", "7%", "100%"],
    "price": ["1,234", "12,345", "999"], "remark": ["late, cold", "in May, warm", "none"],
}  # fmt: skip
"""Columns that are no values: three of known tools, and others that have to be named with --metadata-columns."""
KNOWN = ("Length", "Chr", "taxonomy")
COMPRESSIONS = ["", "gzip", "bzip2", "xz", "zstd", "zip", "gzip twice"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "utf-16 without mark"]


@dataclass(frozen=True)
class Layout:
    """How a table is written: one choice of each kind.

    Attributes
    ----------
    separator, header, id_name, id_place, extras
        Between cells; whether there is a header; the id column's header, and its place among ``extras``.
    turned
        Whether samples are in rows.
    above
        A line before the header: none, a comment, or Excel's.
    compression, encoding, newline, quoted, trailing, decimal_comma, end
        Of the file; quotes around all cells; a separator after each row; ``,`` in numbers; a last line end.
    """

    separator: str
    header: bool
    id_name: str
    id_place: int
    extras: tuple[str, ...]
    turned: bool
    above: str
    compression: str
    encoding: str
    newline: str
    quoted: bool
    trailing: bool
    decimal_comma: bool
    end: bool


@st.composite
def layouts(draw: Any) -> Layout:
    """Layouts that somebody could mean: what contradicts itself (a decimal comma between commas) is not drawn."""
    separator = draw(st.sampled_from(SEPARATORS))
    turned = draw(st.booleans())
    header = draw(st.booleans() if not turned else st.just(True))
    extras = draw(st.lists(st.sampled_from(sorted(EXTRAS)), max_size=2, unique=True)) if header else []
    quoted = draw(st.booleans()) and separator != " "
    if not quoted:  # a cell can not hold what stands between cells
        extras = [name for name in extras if separator not in name + "".join(EXTRAS[name])]
    names = [n for n in (SAMPLE_HEADERS if turned else GENE_HEADERS) if separator != " " or " " not in n]
    return Layout(
        separator, header, draw(st.sampled_from(names)), draw(st.integers(0, len(extras))), tuple(extras), turned,
        draw(st.sampled_from(["", "comment", "Excel"] if separator == ";" else ["", "comment"])),
        draw(st.sampled_from(COMPRESSIONS)), draw(st.sampled_from(ENCODINGS)), draw(st.sampled_from(["\n", "\r\n"])),
        quoted, draw(st.booleans()) and separator != " ", draw(st.booleans()) and separator in "\t;",
        draw(st.booleans()),
    )  # fmt: skip


def write(layout: Layout, genes: list[str], samples: list[str], values: np.ndarray) -> bytes:
    """A table in a layout."""
    rows, columns, cells = (samples, genes, values.T) if layout.turned else (genes, samples, values)
    extras = [(name, EXTRAS[name]) for name in layout.extras]
    before, after = extras[: layout.id_place], extras[layout.id_place :]

    def number(value: float) -> str:
        text = repr(float(value))
        return text.replace(".", ",") if layout.decimal_comma else text

    lines = [[*(n for n, _ in before), layout.id_name, *(n for n, _ in after), *columns]] if layout.header else []
    for i, name in enumerate(rows):
        fields = [[words[i % 3] for _, words in some] for some in (before, after)]
        lines.append([*fields[0], name, *fields[1], *map(number, cells[i])])
    if layout.quoted:
        lines = [[f'"{cell}"' for cell in line] for line in lines]
    end = layout.separator if layout.trailing else ""
    text = layout.newline.join(layout.separator.join(line) + end for line in lines)
    above = {"": "", "comment": "# made by hand" + layout.newline, "Excel": f"sep=;{layout.newline}"}[layout.above]
    return packed(encoded(above + text + (layout.newline if layout.end else ""), layout.encoding), layout.compression)


def encoded(text: str, name: str) -> bytes:
    marks = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
    if name == "utf-16 without mark":
        return text.encode("utf-16-le")
    return marks.get(name, b"") + text.encode(name)


def packed(data: bytes, compression: str) -> bytes:
    if compression == "zip":
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("whatever", data)
        return target.getvalue()
    pack = {
        "": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress,
        "zstd": lambda d: pa.compress(d, codec="zstd", asbytes=True),
        "gzip twice": lambda d: gzip.compress(gzip.compress(d)),
    }  # fmt: skip
    return bytes(pack[compression](data))


NUMBERS = st.integers(0, 9999).map(lambda n: n / 4)  # two decimals at most: 1,125 may be a thousand


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(layout=layouts(), n_genes=st.integers(2, 6), n_samples=st.integers(2, 5), data=st.data())
def test_every_layout_gives_the_store_of_the_plain_table(
    layout: Layout, n_genes: int, n_samples: int, data: st.DataObject
) -> None:
    values = np.array(data.draw(st.lists(NUMBERS, min_size=n_genes * n_samples, max_size=n_genes * n_samples)))
    values = values.reshape(n_genes, n_samples)
    genes, samples = [f"g{i}_ä" for i in range(n_genes)], [f"day {j}".replace(" ", "-") for j in range(n_samples)]
    metadata = [name for name in layout.extras if name not in KNOWN or layout.turned]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        path.write_bytes(write(layout, genes, samples, values))
        options: dict[str, Any] = {"metadata_columns": metadata, "no_header": not layout.header}
        options["orient"] = "samples-by-genes" if layout.turned else "genes-by-samples"
        ds = ingested(path, **options)
        np.testing.assert_array_equal(ds.abundance.values, values.astype(np.float32))
        assert ds.gene_id.values.tolist() == genes
        if layout.header:
            assert ds.sample_id.values.tolist() == samples
            plain = Path(folder) / "plain.tsv"
            rows = ("\t".join([gene, *map(str, row)]) for gene, row in zip(genes, values, strict=True))
            plain.write_text("\n".join(["\t".join(["gene_id", *samples]), *rows, ""]))
            assert ds.attrs["input_digest"] == ingested(plain).attrs["input_digest"]
        kept = [name for name in map(str, ds.variables) if name.startswith(("gene_", "sample_"))]
        assert len(kept) - len({"gene_id", "sample_id", "gene_prevalence"} & set(kept)) == len(layout.extras)


def ingested(path: Path, **options: Any) -> Any:
    ds = cagdask.ingest(str(path), store=f"{path}.zarr", client=InlineRunner(), overwrite=True, **options)
    return ds.load()
