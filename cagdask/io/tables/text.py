"""Text tables: any usual separator, any usual compression and encoding; genes in rows, or samples in rows.

    bytes --unpacked, UTF-8--> look at the first lines --> pyarrow, typed by column --> batches

Values are parsed as numbers from the start; only when a cell is none is its column read again as text, to say which.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from cagdask import storage
from cagdask.errors import InputError
from cagdask.io.tables import reading as limits
from cagdask.io.tables.cells import is_number
from cagdask.io.tables.labels import Labels, label_columns
from cagdask.io.tables.look import WORDS, Look, look
from cagdask.io.tables.reading import Batch, Batches, Reading
from cagdask.io.tables.small_formats import open_lines
from cagdask.io.tables.tools import recognise

MOTHUR = ["label", "group", "numotus"]
"""Header of a shared file, which always has samples in rows."""
_WORDS = re.compile(WORDS.pattern.encode())


@contextmanager
def open_text(url: str, handle: Any, reading: Reading) -> Iterator[Batches]:
    """Open a text table.

    Raises
    ------
    InputError
        As :func:`look` and :func:`label_columns` say; a cell is no number.
    """
    seen = look(url, handle, no_header=reading.no_header, of_values=True, describes=reading.describes)
    notes = []
    if seen.separator not in "\t,":
        notes.append(f"separated by {'blanks' if seen.separator == ' ' else repr(seen.separator)}")
    if seen.decimal == ",":
        notes.append("decimal commas")
    if reading.orient == limits.AUTO and [name.lower() for name in seen.names[:3]] == MOTHUR:
        reading = replace(reading, orient=limits.SAMPLES_IN_ROWS)
        notes.append("mothur's shared file, samples in rows")
    tool = recognise(seen.names)
    if tool and reading.genes_in_rows:
        given = reading.to_json()
        given.setdefault("gene_column", tool.ids)
        given.setdefault("value_column", tool.value)
        reading = Reading.of(given)
        notes.append(f"{tool.name}, column {reading.value_column!r}")
    labels = label_columns(
        url, seen.names, seen.kinds, reading, genes_in_rows=reading.genes_in_rows, numbered=seen.numbered,
        repeated=seen.repeated,
    )  # fmt: skip
    columns = [seen.names[i] for i in labels.values]
    if tool and len(columns) == 1:
        columns = [_sample_of(url)]
    table = Table(url, seen, labels, columns, reading)
    yield Batches(
        seen.names[labels.ids], columns, reading.genes_in_rows, table.batches(), table.row_names, notes=notes
    )  # fmt: skip


def _sample_of(url: str) -> str:
    """The sample that a tool's file is of: its folder, where the file is called as the tool calls all."""
    name = storage.name_of(url)
    stem = name.split(".")[0]
    generic = stem in ("quant", "abundance", "counts", "results", "ReadsPerGene", "depth")
    return storage.name_of(storage.parent_of(url)) or stem if generic else stem


class Tabbed(io.RawIOBase):
    """Lines whose runs of blanks became tabs; those within quotes stay, where ``quoted``."""

    def __init__(self, stream: Any, *, quoted: bool = False) -> None:
        self._stream, self._quoted = stream, quoted
        self._held = b""

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        while not self._held:
            lines = self._stream.readlines(2**18)
            if not lines:
                break
            self._held = b"".join(b"\t".join(self._cells(line)) + b"\n" for line in lines)
        n = min(len(buffer), len(self._held))
        buffer[:n] = self._held[:n]
        self._held = self._held[n:]
        return n

    def _cells(self, line: bytes) -> list[bytes]:
        return _WORDS.findall(line) if self._quoted and b'"' in line else line.split()


class Table:
    """Reads the rows of a table that was looked at."""

    def __init__(self, url: str, seen: Look, labels: Labels, columns: list[str], reading: Reading) -> None:
        self.url, self.seen, self.labels, self.columns = url, seen, labels, columns
        self.genes_in_rows = reading.genes_in_rows

    def batches(self) -> Iterator[Batch]:
        """Names, values and other fields of the rows."""
        types = {str(i): pa.float64() for i in self.labels.values}
        wanted = [self.labels.ids, *self.labels.values, *self.labels.fields, *self.labels.dropped]
        names = [self.seen.names[i] for i in self.labels.fields]
        try:
            for batch in self._read(types, wanted):
                ids = pc.utf8_trim_whitespace(batch.column(str(self.labels.ids)))
                values = matrix(batch.select([str(i) for i in self.labels.values]))
                fields = [self._field(batch, i) for i in self.labels.fields]
                ids, values, fields = self._without_empty(batch, ids, values, fields)
                self._check_ids(ids)
                yield ids, values, pa.RecordBatch.from_arrays(fields, names=names) if names else None
        except pa.ArrowInvalid as err:
            if "conversion error" in str(err):
                self._name_the_cell(str(err))
            raise

    def _field(self, batch: pa.RecordBatch, i: int) -> pa.StringArray:
        """A column beside the values; numbers in it have a point."""
        column = batch.column(str(i))
        commas = self.seen.decimal == "," and self.seen.kinds[i] == "number"
        return pc.replace_substring(column, ",", ".") if commas else column

    def _without_empty(
        self, batch: pa.RecordBatch, ids: pa.StringArray, values: NDArray[Any], fields: list[Any]
    ) -> tuple[pa.StringArray, NDArray[Any], list[Any]]:
        """Without rows and columns that a spreadsheet left: of no name and no value."""
        for i in self.labels.dropped:
            if (
                self.seen.kinds[i] == "empty"
                and (row := pc.index(pc.not_equal(batch.column(str(i)), ""), True).as_py()) >= 0
            ):
                raise InputError(
                    f"{self.url}: row {ids[row].as_py()!r}: column {i + 1:,} has no header and holds "
                    f"{batch.column(str(i))[row].as_py()!r}. Give it a name, or take it out."
                )
        unnamed = np.asarray(pc.equal(ids, ""))
        if unnamed.any():
            unnamed &= np.isnan(values).all(axis=1)
            kept = pa.array(~unnamed)
            return ids.filter(kept), values[~unnamed], [column.filter(kept) for column in fields]
        return ids, values, fields

    def _check_ids(self, ids: pa.StringArray) -> None:
        broken = pc.index(pc.match_substring_regex(ids, r"[\n\r\t]"), True).as_py()
        if broken >= 0:
            raise InputError(
                f"{self.url}: the name {ids[broken].as_py()[:60]!r} holds a line break or a tab: a quote is opened "
                "and not closed. Close it, or take it out."
            )

    def row_names(self) -> Iterator[pa.StringArray]:
        """Names of the rows alone."""
        for batch in self._read({}, [self.labels.ids]):
            yield batch.column(0)

    def _read(self, types: dict[str, pa.DataType], columns: list[int]) -> Iterator[pa.RecordBatch]:
        with open_lines(self.url) as stream:
            for _ in range(self.seen.n_skipped):
                stream.readline()
            blanks = self.seen.separator == " "
            plain = io.BufferedReader(Tabbed(stream, quoted=self.seen.quoted)) if blanks else stream
            yield from pa_csv.open_csv(pa.PythonFile(plain, "r"), **self._options(types, columns))

    def _options(self, types: dict[str, pa.DataType], columns: list[int]) -> dict[str, Any]:
        names = [str(i) for i in range(len(self.seen.names))]
        text = {name: pa.string() for name in names if name not in types}
        size = min(max(limits.BATCH_BYTES, 8 * self.seen.longest), 2**31 - 1)
        return {
            "read_options": pa_csv.ReadOptions(column_names=names, block_size=size, use_threads=False),
            "parse_options": pa_csv.ParseOptions(
                delimiter="\t" if self.seen.separator == " " else self.seen.separator,
                quote_char='"' if self.seen.quoted else False,
            ),
            "convert_options": pa_csv.ConvertOptions(
                column_types=types | text, include_columns=[str(i) for i in columns], strings_can_be_null=False,
                decimal_point=self.seen.decimal,
            ),
        }  # fmt: skip

    def _name_the_cell(self, why: str) -> None:
        """Find the first cell of the column that Arrow complained of which is not a number, and raise."""
        column = next(
            (int(w[1:].rstrip(":")) for w in why.split() if w[:1] == "#" and w[1:].rstrip(":").isdigit()), None
        )
        if column is None:
            return
        comma = self.seen.decimal == ","
        for batch in self._read({}, [self.labels.ids, column]):
            for row, value in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
                if not is_number(value.replace(",", ".") if comma else value):
                    raise_not_number(self.url, row, self.seen.names[column], value, self.genes_in_rows)


def raise_not_number(url: str, row: Any, column: str, value: Any, genes_in_rows: bool) -> None:
    """Say which cell is no number."""
    gene, sample = (row, column) if genes_in_rows else (column, row)
    raise InputError(
        f"{url}: gene {gene!r}, sample {sample!r}: the value is {value!r}, not a number. Correct it; if the column "
        f"holds no values, add `metadata_columns={column!r}`."
    )


def matrix(values: pa.RecordBatch) -> NDArray[Any]:
    """Columns of numbers as rows of an array; NaN for null."""
    if values.num_columns == 0 or values.num_rows == 0:
        return np.zeros((values.num_rows, values.num_columns))
    odd = any(not (pa.types.is_integer(c.type) or c.type in (pa.float32(), pa.float64())) for c in values.columns)
    if odd or len({pa.types.is_floating(c.type) for c in values.columns}) > 1:
        return np.column_stack([_wide(column) for column in values.columns])
    found: NDArray[Any] = values.to_tensor(null_to_nan=True, row_major=True).to_numpy()
    return found if found.dtype.kind == "f" else found.astype(np.float64)


def _wide(column: pa.Array) -> NDArray[np.float64]:
    """A column of numbers of any width as float64."""
    if column.type == pa.float16():
        column = pa.array(np.asarray(column.to_numpy(zero_copy_only=False), np.float64), from_pandas=False)
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
