"""HDF5 files that hold a table: which one it is, by what is in it, and its reader.

observation, sample         BIOM 2.1        X, obs, var          h5ad
matrix + row_attrs          loom            matrix + barcodes    10x
abund                       geneshot        data/expression      ARCHS4
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from cagdask.errors import InputError
from cagdask.io.tables import archs4, h5ad
from cagdask.io.tables.hdf5 import (
    Compressed,
    as_text,
    dense_rows,
    fields_table,
    named_batches,
    names_of,
    open_hdf5,
    whole,
)
from cagdask.io.tables.reading import Batches, Reading

Reader = Callable[[str, Any, Reading], Batches]


@contextmanager
def open_hdf5_table(url: str, handle: Any, reading: Reading) -> Iterator[Batches]:
    """A table in an HDF5 file.

    Raises
    ------
    InputError
        It is damaged, or holds no table that is known.
    """
    with open_hdf5(url, handle) as file:
        for fits, read in _READERS:
            if fits(file):
                yield read(url, file, reading)
                return
        held = ", ".join(sorted(file)[:8]) or "nothing"
        raise InputError(
            f"{url}: is HDF5 and holds {held}, which is no table that is known here. Read are BIOM 2.1, h5ad, 10x, "
            "loom, "
            "geneshot and ARCHS4."
        )


def _group(file: Any, name: str) -> bool:
    return name in file and not hasattr(file[name], "dtype")


def _array(url: str, file: Any, name: str, n_dims: int) -> Any:
    found = file.get(name)
    if found is None or not hasattr(found, "dtype") or len(found.shape) != n_dims or found.dtype.kind not in "iufb":
        raise InputError(f"{url}: {name} is no array of numbers with {n_dims} dimensions. Write the file again.")
    return found


# -- BIOM 2.1 --------------------------------------------------------------------------------------------------------


def _biom(url: str, file: Any, reading: Reading) -> Batches:
    genes = names_of(url, file["observation/ids"], "observation/ids")
    samples = names_of(url, file["sample/ids"], "sample/ids")
    matrix = Compressed(url, "observation/matrix", file["observation/matrix"], len(genes), len(samples))
    return Batches(
        "#OTU ID", samples, True, named_batches(genes, len(samples), matrix.dense), _names(genes), settled=True,
        column_metadata=_biom_fields(file, "sample", len(samples)),
        row_metadata=_biom_fields(file, "observation", len(genes)),
        notes=["BIOM 2.1"],
    )  # fmt: skip


def _biom_fields(file: Any, axis: str, n: int) -> pa.Table | None:
    held = file.get(f"{axis}/metadata")
    found = {}
    for name in sorted(held) if held is not None and not hasattr(held, "dtype") else ():
        array = held[name]
        if hasattr(array, "dtype") and len(array.shape) == 2:  # taxonomy: a word per level
            values = [";".join(as_text(word) for word in row if as_text(word)) for row in whole(array).tolist()]
            found[name] = np.array(values, object)
        elif hasattr(array, "dtype") and len(array.shape) == 1:
            found[name] = whole(array)
    return fields_table(found, n)


def _names(names: list[str]) -> Callable[[], Iterator[pa.StringArray]]:
    return lambda: iter([pa.array(names, pa.string())])


# -- 10x, loom -----------------------------------------------------------------------------------------------


def _tenx(url: str, file: Any, reading: Reading) -> Batches:
    name = "matrix" if _group(file, "matrix") else next(n for n in file if _group(file, n) and "barcodes" in file[n])
    group = file[name]
    samples = names_of(url, group["barcodes"], f"{name}/barcodes")
    features = group["features"] if "features" in group else None
    genes = names_of(url, features["id"] if features is not None else group["genes"], f"{name}/features/id")
    matrix = Compressed(url, name, group, len(samples), len(genes))
    held = (
        {} if features is None else {k: whole(features[k]) for k in ("name", "feature_type", "genome") if k in features}
    )
    if features is None and "gene_names" in group:
        held["name"] = whole(group["gene_names"])
    if "name" in held:
        held["symbol"] = held.pop("name")
    return Batches(
        "barcode", genes, False, named_batches(samples, len(genes), matrix.dense), _names(samples), settled=True,
        column_metadata=fields_table(held, len(genes)), notes=["10x"],
    )  # fmt: skip


def _loom(url: str, file: Any, reading: Reading) -> Batches:
    array = _array(url, file, "matrix", 2)
    rows = _attributes(file["row_attrs"], array.shape[0])
    columns = _attributes(file["col_attrs"], array.shape[1])
    genes = _pick(
        url, rows, ("Accession", "Gene", "gene_id", "ID", "var_names", "Name"), reading.gene_column, "row_attrs"
    )
    samples = _pick(url, columns, ("CellID", "cell_id", "obs_names", "SampleID", "ID", "Name"), None, "col_attrs")
    if reading.gene_column is None and len(set(genes[1])) < len(genes[1]) and "Gene" in rows:
        genes = "Gene", [as_text(v) for v in rows["Gene"].tolist()]
    rows.pop(genes[0], None)
    columns.pop(samples[0], None)
    return Batches(
        genes[0], samples[1], True,
        named_batches(genes[1], array.shape[1], lambda a, b: dense_rows(array, a, b)), _names(genes[1]), settled=True,
        column_metadata=fields_table(columns, array.shape[1]), row_metadata=fields_table(rows, array.shape[0]),
        notes=["loom"],
    )  # fmt: skip


def _attributes(group: Any, n: int) -> dict[str, Any]:
    return {name: whole(group[name]) for name in group if getattr(group[name], "shape", None) == (n,)}


def _pick(
    url: str, held: dict[str, Any], known: tuple[str, ...], asked: str | None, where: str
) -> tuple[str, list[str]]:
    name = next((n for n in ((asked,) if asked else known) if n in held), None)
    if name is None:
        wanted = repr(asked) if asked else " or ".join(known[:3])
        raise InputError(f"{url}: {where} has no {wanted} (it has {', '.join(sorted(held)) or 'nothing'}).")
    return name, [as_text(value) for value in held[name].tolist()]


# -- geneshot: what pandas' HDFStore writes --------------------------------------------------------------------------


def _geneshot(url: str, file: Any, reading: Reading) -> Batches:
    wanted = reading.variable or next((n for n in ("abund/gene/wide", "abund/cag/wide") if n in file), None)
    if wanted is None or wanted not in file:
        raise InputError(f"{url}: has no {wanted or 'abund/gene/wide'}, where geneshot keeps abundances.")
    group = file[wanted]
    rows, columns, values = _table_frame(url, group) if "table" in group else _fixed_frame(url, group)
    index = next((n for n in (reading.gene_column, "index", "gene", "CAG") if n in columns), None)
    genes = [str(x) for x in columns.pop(index)] if index else [str(x) for x in rows]
    if wanted.endswith("cag/wide") and genes and genes[0].isdigit():
        genes = [f"CAG {name}" for name in genes]
    names = list(values)
    matrix = np.column_stack([values[name] for name in names]) if names else np.zeros((len(genes), 0))
    if not names or len(matrix) != len(genes):
        raise InputError(
            f"{url}: {wanted} holds {len(names)} columns of numbers for {len(genes):,} names. Check the file."
        )
    notes = [
        f"geneshot's {wanted}"
        + (": CAGs, not genes; the genes are in geneshot's full file" if "/cag/" in wanted else "")
    ]
    return Batches(
        "index", names, True, named_batches(genes, len(names), lambda a, b: matrix[a:b].astype(np.float64)),
        _names(genes), settled=True, notes=notes,
    )  # fmt: skip


def _fixed_frame(url: str, group: Any) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """A frame of format ``fixed``: blocks of columns; text is pickled, and only looked through for its words."""
    rows = whole(group["axis1"]).tolist()
    text: dict[str, Any] = {}
    numbers: dict[str, Any] = {}
    for i in range(64):
        if f"block{i}_items" not in group:
            break
        items = names_of(url, group[f"block{i}_items"], f"block{i}_items")
        block = group[f"block{i}_values"]
        if block.dtype.kind == "O":
            if len(items) == 1:
                text[items[0]] = _words(url, bytes(block[0]), len(rows))
            continue
        found = whole(block)
        if found.shape != (len(rows), len(items)):
            raise InputError(f"{url}: block{i}_values has the shape {found.shape}; needs {(len(rows), len(items))}.")
        for j, item in enumerate(items):
            (text if item in ("CAG", "index") else numbers)[item] = found[:, j]
    order = names_of(url, group["axis0"], "axis0")
    return rows, text, {name: numbers[name] for name in order if name in numbers}


def _words(url: str, data: bytes, n: int) -> list[str]:
    """The last ``n`` texts of a pickle, without unpickling: that would run whatever the file says."""
    found: list[str] = []
    memo: dict[Any, str | None] = {}
    last: str | None = None
    try:
        for operation, argument, _ in pickletools.genops(data):
            if "UNICODE" in operation.name and isinstance(argument, str):
                found.append(argument)
                last = argument
            elif operation.name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
                memo[len(memo) if operation.name == "MEMOIZE" else argument] = last
                last = None
            elif operation.name in ("BINGET", "LONG_BINGET", "GET") and memo.get(argument) is not None:
                found.append(str(memo[argument]))
            else:
                last = None
    except (ValueError, UnicodeError) as err:
        raise InputError(f"{url}: a column of text can not be read ({str(err)[:100]}). Write the file again.") from err
    if len(found) < n:
        raise InputError(f"{url}: a column of text holds {len(found):,} names, for {n:,} rows. Write the file again.")
    return found[len(found) - n :]


def _table_frame(url: str, group: Any) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """A frame of format ``table``: a compound array; its columns are named in a pickle, looked through for words."""
    table = group["table"]
    held = whole(table)
    text: dict[str, Any] = {}
    numbers: dict[str, Any] = {}
    for name in held.dtype.names or ():
        values = held[name]
        if name.startswith("values_block_"):
            words = _words(url, bytes(table.attrs[f"{name}_kind"]), values.shape[1])
            numbers |= {word: values[:, j] for j, word in enumerate(words)}
        elif name != "index" or values.dtype.kind == "S":
            text[name] = [as_text(value) for value in values.tolist()]
    return held["index"].tolist() if "index" in (held.dtype.names or ()) else list(range(len(held))), text, numbers


# -- h5ad ------------------------------------------------------------------------------------------------------------


def _h5ad(url: str, file: Any, reading: Reading) -> Batches:
    return h5ad.open_cohort(url, file, reading)


_READERS: tuple[tuple[Callable[[Any], bool], Reader], ...] = (
    (lambda file: _group(file, "observation") and _group(file, "sample"), _biom),
    (lambda file: "obs" in file and "var" in file, _h5ad),
    (lambda file: "matrix" in file and "row_attrs" in file and "col_attrs" in file, _loom),
    (lambda file: any(_group(file, name) and "barcodes" in file[name] for name in file), _tenx),
    (archs4.is_archs4, archs4.open_archs4),
    (lambda file: "abund" in file, _geneshot),
)
