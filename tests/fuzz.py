"""Inputs that somebody damaged, or made to do damage: what comes of them.

Seeded mutations of good sheets, sample JSONs, gzip files, tables, Zarr metadata, gene names and results go through the
functions that read them. Each must be taken or be refused by an error of cagdask, soon, in bounded memory, and nothing
may appear outside the output folder.
"""

from __future__ import annotations

import bz2
import copy
import faulthandler
import gzip
import io
import json
import lzma
import os
import random
import shutil
import signal
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cagdask import storage
from cagdask.compute import memory
from cagdask.errors import CagdaskError
from cagdask.io.sheets.samples import read_sample
from cagdask.io.sheets.sheet import read_sheet
from cagdask.io.tables.parts import read_table
from tests.conftest import write_abundance_store
from tests.result_store import write_result_store

CASE_SECONDS = 20
"""Processor time of a case; a case that waits gets ten times as much, since other programs run too."""
BUDGET = 64 * 2**20
CASE_BYTES = 6 * BUDGET
"""How far the resident memory may rise within a case: its budget, and what libraries need beside it."""
ODD: list[Any] = [
    None, True, "", "\0", "../../../etc/passwd", "file:///etc/passwd", "/etc/passwd", "~", "s3://", "s3://x/../y",
    "http://[::1", "simplecache::s3://a/b", "a" * 70_000, "\ud800", "é\u202e", -1, 0, 1e308, -1e400, 2**63, 2**200, 0.1,
    [], {}, [[]], [1] * 5, {"results": 1}, float("nan"), "NaN", "1e5", "zstd", "pickle", "numcodecs.pickle", "float128",
    "object", 10**18, [10**12, 10**12], [0, 0], {"name": "pickle", "configuration": {}},
]  # fmt: skip
ODD_LABELS = [-(2**63), -2, -1, 0, 1, 3, 7, 10**6, 2**31, 2**62, 2**63 - 1]
ODD_ATTRIBUTES = [None, 0, -1, "", "<script>", "{}", "[", "[1]", '{"max_dist": []}', True, [], {"a": 1}, "\0", 1e308]
TOKENS = [b"{", b"[", b'"', b"\\", b"\x00", b"\xff", b"null", b"1e999", b"NaN", b"\n", b"\t", b",", b"\xef\xbb\xbf"]
DEEP = [
    b"[" * 200_000,
    b'{"a":' * 100_000,
    b'{"results":' + b"[" * 100_000,
    b'{"results":[{"id":"a","depth":1,"x":' + b"[" * 50_000,
]


def _bomb(n_bytes: int) -> bytes:
    """Gzip data of ``n_bytes`` blanks, in members of 64 MiB, made without holding them."""
    packer, blanks = zlib.compressobj(9, wbits=31), b" " * 2**20
    member = b"".join(packer.compress(blanks) for _ in range(64)) + packer.flush()
    return member * (n_bytes // (64 * len(blanks)))


BOMB = _bomb(2**30)

# -- mutations -------------------------------------------------------------------------------------------------------


def mutate_bytes(data: bytes, chance: random.Random) -> bytes:
    """Flip, cut, insert, repeat or swap some bytes."""
    damaged = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 5, 20])):
        at = chance.randrange(len(damaged) + 1)
        what = chance.randrange(6)
        if what == 0 and at < len(damaged):
            damaged[at] ^= 1 << chance.randrange(8)
        elif what == 1:
            del damaged[at:]
        elif what == 2:
            damaged[at:at] = chance.choice(TOKENS)
        elif what == 3:
            damaged[at:at] = damaged[at : at + chance.randrange(64)] * chance.choice([1, 2, 50])
        elif what == 4:
            del damaged[at : at + chance.randrange(32)]
        else:
            damaged[at : at + 4] = chance.randbytes(4)
    return bytes(damaged)


def mutate_json(content: Any, chance: random.Random) -> bytes:
    """Exchange, drop or rename something in a JSON, wherever it is."""
    content = copy.deepcopy(content)
    for _ in range(chance.choice([1, 1, 2, 4])):
        places = list(_places(content))
        if not places:
            break
        where, key = chance.choice(places)
        what = chance.randrange(5)
        if what == 0:
            del where[key]
        elif what == 1 and isinstance(where, dict):
            where[str(chance.choice(ODD))] = where.pop(key)
        elif what == 2 and isinstance(where, list):
            where.append(copy.deepcopy(where[key]))
        else:
            where[key] = copy.deepcopy(chance.choice(ODD))
    return json.dumps(content).encode("utf-8", "surrogatepass")


def _places(content: Any) -> Any:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield content, key
        yield from _places(value)


# -- what is attacked ------------------------------------------------------------------------------------------------

RECORDS = [{"id": f"gene_{i}", "depth": 0.5 + i, "length": 900, "more": {"deep": [1, 2]}} for i in range(6)]
TABLE = "gene\ts1\ts2\na\t1\t2\nb\t0\t3.5\nc\t1e-3\t0\n"
DIALECTS = [
    'gene,"s,1","s2"\n"a, x",1,2\n"b ""y""",0,3.5\n',
    "\ufeffgene;s1;s2\r\na;1,5;2\r\nb;0;3,25\r\n",
    "# made by a tool\n# v2\n#OTU ID\ts1\ts2\ttaxonomy\na\t1\t2\tk; p\nb\t0\t3\tk; q\n",
    "# Program:featureCounts v2\nGeneid\tChr\tStart\tEnd\tStrand\tLength\tx.bam\ty.bam\na\t1\t2\t9\t+\t7\t1\t2\n",
    "#1.2\n2\t2\nNAME\tDescription\ts1\ts2\na\tna\t1\t2\nb\tna\t3\t4\n",
    "label\tGroup\tnumOtus\tOtu1\tOtu2\n0.03\ts1\t2\t4\t5\n0.03\ts2\t2\t0\t1\n",
    '"","s1","s2"\n"1","a",1,2\n"2","b",3,4\n',
]
SAMPLES_OF_TOOLS = [
    "Name\tLength\tEffectiveLength\tTPM\tNumReads\na\t900\t700.5\t1.5\t10\nb\t500\t300\t0\t0\n",
    "target_id\tlength\teff_length\test_counts\ttpm\na\t900\t700\t10\t1.5\nb\t10\t9\t0\t0\n",
    "a\t12\nb\t0\n__no_feature\t50\n",
    "N_unmapped\t5\t5\t5\nN_multimapping\t1\t1\t1\nN_noFeature\t1\t1\t1\nN_ambiguous\t0\t0\t0\na\t3\t1\t2\n",
    '{"id": "a", "depth": 1}\n{"id": "b", "depth": 2.5}\n',
]


AXES = ("rows", "columns")
ODD_ENDS = [[0, 2, 1, 4], [0, -5, 2, 4], [4, 2, 1, 0], [0, 1, 2, 2**40], [0, 0, 0, 0], [0], [], [1, 2, 3, 4]]
ODD_TYPES = ["i1", "u1", "i8", "u8", "f2", "f8", "?", "S3", "c16"]


def write_compressed(group: Any, n_major: int, n_minor: int) -> None:
    """A small matrix as AnnData and BIOM store it."""
    group["data"], group["indices"] = np.arange(1, 5, dtype="f4"), np.arange(4, dtype="i4") % n_minor
    group["indptr"] = np.minimum(np.arange(n_major + 1) * 2, 4)


def spoil(file: Any, chance: random.Random) -> None:
    """Exchange arrays and attributes of an HDF5 file for others: of other shapes, types, numbers, or far too large."""
    found: list[str] = []
    file.visit(found.append)
    for _ in range(chance.choice([0, 1, 1, 2, 3])):
        with suppress(ValueError, OverflowError, TypeError, KeyError):  # what h5py does not write
            _spoil_one(file, chance.choice(found), chance)


def _spoil_one(file: Any, name: str, chance: random.Random) -> None:
    if name in file:
        part = file[name]
        what = chance.randrange(8)
        if what == 0:
            del file[name]
        elif what == 1:
            part.attrs[chance.choice(["encoding-type", "shape", "_index", "categories"])] = chance.choice(
                ["null", "csr_matrix", "nowhere", -1, 2**62, [3], [3, -4], [2**40, 2**40], [4, 3], [3, 4]]
            )
        elif hasattr(part, "dtype") and part.size < 2**16:
            values = np.atleast_1d(part[()])
            del file[name]
            if what == 2:
                file[name] = np.array(chance.choice(ODD_ENDS), "i8")
            elif what == 3 and values.dtype.kind in "iuf":
                file[name] = values.astype(chance.choice(ODD_TYPES))
            elif what == 4:
                file.create_dataset(
                    name, (2 ** chance.choice([20, 33, 40]),), chance.choice(["f4", "i8", "S9"]), chunks=True
                )
            elif what == 5:
                file.create_group(name)
            elif what == 6 and values.dtype.kind in "iuf" and values.size:
                values = values.copy()
                values.flat[chance.randrange(values.size)] = chance.choice([-1, 2, 9, 2**31 - 1])
                file[name] = values
            else:
                file[name] = chance.choice([values[:-1], values.reshape(1, -1), np.array([], values.dtype), 7, "text"])


GENE_TYPES = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]


class Playground:
    """A folder with good inputs, of which damaged ones are made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inside = folder / "inside"
        self.inside.mkdir(parents=True)
        self.good = {f"sample_{i}": f"sample_{i}.json" for i in range(3)}
        for name in self.good.values():
            (self.inside / name).write_text(json.dumps(RECORDS))
        self.store = self.inside / "good.zarr"
        write_abundance_store(str(self.store), np.ones((6, 3), np.float32), chunk_rows=2)
        self.sealed = self.inside / "sealed.zarr"
        work, _ = storage.begin_work(str(self.sealed), {})
        shutil.copytree(self.store, storage.join(work, "store"))
        storage.publish(storage.join(work, "store"), str(self.sealed))
        storage.end_work(str(self.sealed))
        self.result = write_result_store(str(self.inside / "result.zarr"), [0, 0, 0, 1, 1, 2, -1])

    def sheet(self, chance: random.Random) -> None:
        data = chance.choice(DEEP) if chance.random() < 0.02 else self._json(self.good, chance)
        target = self.inside / "sheet.json"
        target.write_bytes(gzip.compress(data) if chance.random() < 0.2 else data)
        read_sheet(str(target))

    def sample(self, chance: random.Random) -> None:
        content = chance.choice([RECORDS, {"results": RECORDS}])
        data = chance.choice(DEEP) if chance.random() < 0.02 else self._json(content, chance)
        self._read(data)

    def names(self, chance: random.Random) -> None:
        """Gene names of any kind."""
        alphabet = "ab\u0000\u00e9\ud7ff\U0001f9ec \t\n\"\\'/.,"
        names = ["".join(chance.choices(alphabet, k=chance.randrange(12))) for _ in range(8)]
        self._read(json.dumps([{"id": name, "depth": 1.5} for name in names]).encode())

    def zipped(self, chance: random.Random) -> None:
        """Damaged gzip data, and honest gzip data of far too much."""
        if chance.random() < 0.01:
            data = BOMB
        else:
            data = mutate_bytes(gzip.compress(json.dumps(RECORDS).encode()), chance)
        self._read(data)

    def _read(self, data: bytes) -> None:
        target = self.inside / "sample.json"
        target.write_bytes(data)
        keys = ["results", "depth", "id"]
        read_sample("s", str(target), len(data), "", keys, False, BUDGET, str(self.inside / "made.parquet"))

    def table(self, chance: random.Random) -> None:
        data = TABLE if chance.random() < 0.4 else chance.choice(DIALECTS)
        data = mutate_bytes(data.encode(chance.choice(["utf-8", "utf-8", "utf-8", "utf-16"])), chance)
        name = chance.choice(["t.tsv", "t.csv", "t.tsv.gz"])
        target = self.inside / name
        target.write_bytes(gzip.compress(data) if chance.random() < 0.3 else data)
        orient = chance.choice(["genes-by-samples", "samples-by-genes"])
        read_table(str(target), len(data), "", {"orient": orient}, False, BUDGET, str(self.inside / "parts"))

    def columns(self, chance: random.Random) -> None:
        """Damaged Parquet and Feather files."""
        import pyarrow as pa
        import pyarrow.feather as feather
        import pyarrow.parquet as pq

        suffix = chance.choice([".parquet", ".feather"])
        target = self.inside / f"t{suffix}"
        content = pa.table({"gene": ["a", "b", "c"], "s1": [1.0, 2.0, 0.0], "s2": [0.0, 1.0, 3.0]})
        if suffix == ".parquet":
            pq.write_table(content, target)
        else:
            feather.write_feather(content, str(target))
        target.write_bytes(mutate_bytes(target.read_bytes(), chance))
        orient = "genes-by-samples"
        read_table(str(target), 1, "", {"orient": orient}, False, BUDGET, str(self.inside / "parts"))

    def _table(self, target: Path) -> None:
        folder = str(self.inside / "parts")
        read_table(str(target), target.stat().st_size, "", {}, False, BUDGET, folder)

    def h5ad(self, chance: random.Random) -> None:
        """AnnData's files with odd arrays, attributes and bytes."""
        target = self.inside / "t.h5ad"
        layout = chance.choice(["csr", "csc", "dense"])
        shape = (3, 4) if layout != "csc" else (4, 3)
        with h5py.File(target, "w") as file:
            if layout == "dense":
                file["X"] = np.ones((3, 4))
            else:
                write_compressed(file.create_group("X"), *shape)
                file["X"].attrs.update({"encoding-type": f"{layout}_matrix", "shape": (3, 4)})
            for axis, n in (("obs", 3), ("var", 4)):
                file.create_group(axis).attrs["_index"] = "_index"
                file[f"{axis}/_index"] = [f"{axis}{i}" for i in range(n)]
            file["obs/kind/codes"], file["obs/kind/categories"] = np.array([0, 1, 0], "i1"), ["a", "b"]
            file["var/length"] = np.arange(4)
            spoil(file, chance)
        self._spoiled(target, chance)

    def biom(self, chance: random.Random) -> None:
        """BIOM 2.1 with odd arrays and bytes, BIOM 1.0 with odd JSON."""
        target = self.inside / "t.biom"
        if chance.random() < 0.4:
            axes = {name: [{"id": f"{name}{i}", "metadata": {"t": ["k", "p"]}} for i in range(3)] for name in AXES}
            table = {"format": "Biological Observation Matrix 1.0.0", "matrix_type": "sparse", "shape": [3, 3], **axes}
            target.write_bytes(self._json(table | {"data": [[0, 0, 5], [1, 2, 3], [2, 1, 1.5]]}, chance))
            self._table(target)
            return
        with h5py.File(target, "w") as file:
            write_compressed(file.create_group("observation/matrix"), 3, 4)
            file["observation/ids"], file["sample/ids"] = list("abc"), list("wxyz")
            file["observation/metadata/taxonomy"] = [["k", "p"]] * 3
            spoil(file, chance)
        self._spoiled(target, chance)

    def arrow(self, chance: random.Random) -> None:
        """Damaged Arrow streams, Feather with dictionaries and nulls, Parquet of many types."""
        target = self.inside / "t.arrow"
        content = pa.table({
            "gene": pa.array(["a", "b", "c", chance.choice(["d", "d", None])], chance.choice(GENE_TYPES)),
            "s1": pa.array([1.0, 2.0, 0.0, 4.0]),
            "s2": pa.array([1, 2, 3, 4], pa.uint8()), "s3": pa.array([0.5, 1, 2, 3], pa.float16()),
        })  # fmt: skip
        kind = chance.choice(["stream", "file", "parquet"])
        if kind == "parquet":
            pq.write_table(content.drop_columns("s3"), target, compression=chance.choice(["snappy", "zstd", "none"]))
        else:
            opener = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
            with pa.OSFile(str(target), "wb") as sink, opener(sink, content.schema) as writer:
                writer.write_table(content, max_chunksize=2)
        target.write_bytes(mutate_bytes(target.read_bytes(), chance))
        self._table(target)

    def archive(self, chance: random.Random) -> None:
        """Damaged zip, xz, bzip2 and zstd data, zips of zips, and workbooks that are none."""
        data = TABLE.encode() if chance.random() < 0.7 else mutate_bytes(TABLE.encode(), chance)
        for _ in range(chance.choice([1, 1, 1, 2, 3, 5])):
            data = self._packed(data, chance)
        target = self.inside / "t.zip"
        target.write_bytes(mutate_bytes(data, chance) if chance.random() < 0.8 else data)
        self._table(target)

    def _packed(self, data: bytes, chance: random.Random) -> bytes:
        kind = chance.randrange(4)
        if kind > 0:
            return (bz2.compress, lzma.compress, lambda d: pa.compress(d, codec="zstd", asbytes=True))[kind - 1](data)
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
            names = chance.choice([["t.tsv"], ["../t.tsv"], ["/t.tsv"], ["a", "b"], ["xl/workbook.xml"], ["e.npy"], []])
            for name in names:
                archive.writestr(name, data)
        return target.getvalue()

    def market(self, chance: random.Random) -> None:
        """10x folders of which one file is damaged."""
        folder = self.inside / "tenx"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        files = {
            "matrix.mtx": b"%%MatrixMarket matrix coordinate real general\n%\n3 2 4\n1 1 5\n2 1 1.5\n3 2 2\n1 2 7\n",
            "features.tsv": b"a\tA\tGene Expression\nb\tB\tGene Expression\nc\tC\tGene Expression\n",
            "barcodes.tsv": b"AAAC-1\nAAAG-1\n",
        }
        bad = chance.choice(["matrix.mtx", "matrix.mtx", *files])
        for name, data in files.items():
            packed = chance.random() < 0.3
            late = packed and chance.random() < 0.5  # damaged below the compression, or above it
            data = mutate_bytes(data, chance) if name == bad and not late else data
            data = gzip.compress(data) if packed else data
            data = mutate_bytes(data, chance) if name == bad and late else data
            (folder / (f"{name}.gz" if packed else name)).write_bytes(data)
        read_table(str(folder), 1, "", {}, False, BUDGET, str(self.inside / "parts"))

    def tool(self, chance: random.Random) -> None:
        """Damaged samples of quantification tools."""
        data = mutate_bytes(chance.choice(SAMPLES_OF_TOOLS).encode(), chance)
        target = self.inside / "quant.sf"
        target.write_bytes(gzip.compress(data) if chance.random() < 0.2 else data)
        keys = ["results", "depth", "id"]
        read_sample("s", str(target), len(data), "", keys, False, BUDGET, str(self.inside / "made.parquet"))

    def cells(self, chance: random.Random) -> None:
        """10x and loom files with odd arrays, attributes and bytes."""
        target = self.inside / "t.h5"
        with h5py.File(target, "w") as file:
            if chance.random() < 0.5:
                write_compressed(file.create_group("matrix"), 3, 4)
                file["matrix/shape"], file["matrix/barcodes"] = [4, 3], list("xyz")
                file["matrix/features/id"], file["matrix/features/name"] = list("abcd"), list("ABCD")
            else:
                file["matrix"] = np.ones((4, 3))
                file["row_attrs/Gene"], file["col_attrs/CellID"] = list("abcd"), list("xyz")
                file["row_attrs/length"] = np.arange(4)
            spoil(file, chance)
        self._spoiled(target, chance)

    def vectors(self, chance: random.Random) -> None:
        """Damaged embeddings: word2vec's text and binary, NumPy's files, JSON."""
        name = chance.choice(["t.vec", "t.bin", "t.npz", "t.npy", "t.json"])
        target, ids = self.inside / name, self.inside / "ids.txt"
        values, rows = np.arange(6, dtype=np.float32).reshape(3, 2), io.BytesIO()
        ids.write_text("a\nb\nc\n")
        if name == "t.npy":
            np.save(rows, values.astype(chance.choice(["f2", "f4", "f8", "i4"])))
        elif name == "t.npz":
            np.savez(rows, embeddings=values, genes=np.array(["a", "b", "c"]))
        elif name == "t.json":
            rows.write(json.dumps({"a": [1, 2], "b": [3, 4.5]}).encode())
        elif name == "t.bin":
            rows.write(b"3 2\n" + b"".join(f"{g} ".encode() + v.tobytes() for g, v in zip("abc", values, strict=True)))
        else:
            rows.write(b"3 2\na 1 2\nb 3 4.5\nc 0 -1e-3\n"[4 * chance.randrange(2) :])
        target.write_bytes(mutate_bytes(rows.getvalue(), chance))
        options = {"ids": str(ids) if name == "t.npy" else None, "matrix": None}
        read_table(str(target), 1, "", {}, True, BUDGET, str(self.inside / "parts"), options)

    def _spoiled(self, target: Path, chance: random.Random) -> None:
        if chance.random() < 0.5:
            target.write_bytes(mutate_bytes(target.read_bytes(), chance))
        self._table(target)

    def metadata(self, chance: random.Random) -> None:
        """Damaged Zarr metadata and manifests."""
        source = chance.choice([self.store, self.sealed])
        target = self.inside / "bad.zarr"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        paths = sorted(target.rglob("zarr.json"))
        path = chance.choice(paths)
        path.write_bytes(self._json(json.loads(path.read_text()), chance))
        storage.open_dataset(str(target))

    def labels(self, chance: random.Random) -> None:
        """Results whose labels, sizes or attributes are not what a clustering gives."""
        from cagdask.reports import page, tables

        target = self.inside / "bad-result.zarr"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.result, target)
        group = storage.open_group(str(target), writable=True)
        if chance.random() < 0.7:
            array: Any = group[chance.choice(["gene_cag", "gene_linkage_cag", "cag_size", "cag_abundance"])]
            values = np.array(array[...])
            for _ in range(chance.choice([1, 2, values.size])):
                values.flat[chance.randrange(values.size)] = chance.choice(ODD_LABELS)
            array[...] = values
        if chance.random() < 0.5:
            group.attrs[chance.choice(sorted(group.attrs))] = chance.choice(ODD_ATTRIBUTES)
        page.render(page.open_result(str(target)))
        for name in tables.FILES:
            tables.write_file(name, str(target), str(self.inside))

    def _json(self, content: Any, chance: random.Random) -> bytes:
        if chance.random() < 0.5:
            return mutate_bytes(json.dumps(content).encode(), chance)
        return mutate_json(content, chance)

    @property
    def targets(self) -> dict[str, Callable[[random.Random], None]]:
        names = (
            "sheet",
            "sample",
            "names",
            "zipped",
            "table",
            "columns",
            "metadata",
            "labels",
            "h5ad",
            "biom",
            "arrow",
            "archive",
            "market",
            "tool",
            "cells",
            "vectors",
        )
        return {name: getattr(self, name) for name in names}


# -- running ---------------------------------------------------------------------------------------------------------


class _Late(BaseException):
    """A case took too long."""


def _raise_late(*_: object) -> None:
    raise _Late


@dataclass
class Report:
    """What came of all cases.

    Attributes
    ----------
    counts
        Cases by target and end: taken, refused.
    problems
        ``(target, seed, what)`` of each that ended in another way.
    peak_ratio, largest
        Largest resident memory of this process over what good inputs took, and by target, in bytes.
    largest_seed
        Seed of the case of each target that took most.
    growth
        By target: how far the resident memory rose within a case at most, in bytes, and the seed of that case.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    problems: list[tuple[str, int, str]] = field(default_factory=list)
    peak_ratio: float = 1.0
    largest: Counter[str] = field(default_factory=Counter)
    largest_seed: dict[str, int] = field(default_factory=dict)
    growth: dict[str, tuple[int, int]] = field(default_factory=dict)


def run(
    folder: Path, n_cases: int, seed: int = 0, names: list[str] | None = None, progress: Path | None = None
) -> Report:
    """Go through ``n_cases``, each with a seed of its own, targets in turn.

    ``names`` are of some targets only. Into ``progress`` goes each case before it runs, for whoever has to tell what
    ended the process.
    """
    playground = Playground(folder)
    report = Report()
    targets = {name: target for name, target in playground.targets.items() if names is None or name in names}
    for name, target in targets.items():  # everything imported and grown to its usual size
        for early in range(20):
            _one(target, random.Random(-early), name, -early, report)
    report.problems.clear()
    report.counts.clear()
    before = max(report.largest.values())
    report.largest.clear()
    report.largest_seed.clear()
    report.growth.clear()
    cwd = os.getcwd()
    os.chdir(folder)
    try:
        for i in range(n_cases):
            name = list(targets)[i % len(targets)]
            if progress is not None:
                progress.write_text(f"{name} {seed + i}")
                faulthandler.dump_traceback_later(12 * CASE_SECONDS, exit=True)  # of a library that hears no signal
            _one(targets[name], random.Random(seed + i), name, seed + i, report)
            if i % 50 == 0 and sorted(p.name for p in folder.iterdir()) != ["inside"]:
                report.problems.append((name, seed + i, f"wrote outside: {sorted(folder.iterdir())}"))
    finally:
        faulthandler.cancel_dump_traceback_later()
        os.chdir(cwd)
    report.peak_ratio = max(report.largest.values()) / before
    return report


def _one(target: Callable[[random.Random], None], chance: random.Random, name: str, seed: int, report: Report) -> None:
    memory.reset_peak()
    before = memory.peak_bytes()  # now the resident memory
    earlier = [signal.signal(number, _raise_late) for number in (signal.SIGALRM, signal.SIGPROF)]
    signal.alarm(10 * CASE_SECONDS)
    signal.setitimer(signal.ITIMER_PROF, CASE_SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as the command does
            target(chance)
        report.counts[name, "taken"] += 1
    except CagdaskError as err:
        report.counts[name, "refused"] += 1
        if not str(err).strip():
            report.problems.append((name, seed, "an error without words"))
    except _Late:
        report.problems.append((name, seed, f"took more than {CASE_SECONDS} s of processor time"))
    except Exception as err:
        report.problems.append((name, seed, f"{type(err).__name__}: {str(err)[:200]}"))
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in zip((signal.SIGALRM, signal.SIGPROF), earlier, strict=True):
            signal.signal(number, handler)
        peak = memory.peak_bytes()
        report.growth[name] = max(report.growth.get(name, (0, 0)), (peak - before, seed))
        if peak - before > CASE_BYTES:
            report.problems.append((name, seed, f"took {memory.format_bytes(peak - before)}"))
        if peak > report.largest[name]:
            report.largest[name], report.largest_seed[name] = peak, seed
