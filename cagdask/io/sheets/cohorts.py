"""Which files hold the samples of a cohort: a JSON sheet, a manifest, a folder, or a pattern.

{"S1": "s1.json", …}              JSON sheet
specimen,path,diagnosis           manifest: names, a column of paths, and what else is known of the samples
quants/*/quant.sf   quants/       pattern, folder: a sample is called as what differs between the paths
"""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cagdask import storage
from cagdask.errors import InputError
from cagdask.io.sheets.sheet import SampleFile, locate_all, read_sheet, stat
from cagdask.io.tables.labels import SAMPLE_NAMES
from cagdask.io.tables.look import Look, look
from cagdask.io.tables.reading import Reading
from cagdask.io.tables.streams import damage_named, folder_kind, open_plain

_ENDING = (
    r"\.(json|ndjson|jsonl|sf|tsv|tab|txt|csv|out|h5|counts?|results|depth|htseq|quant|fastq|fq|fasta|fa|fna|bam|cram|sam)"
    r"(\.(gz|bz2|xz|zst))?"
)
_PATHS = re.compile(rf"(?i)\S.*{_ENDING}")
_SOME_PATH = re.compile(rf"(?i){_ENDING}(?=[\t,;| \"\r\n]|$)".encode())
_LINES_WITH_PATHS = 24
"""Lines among which a manifest names a file: those that are looked at below, and lines above the header."""
_LINE_BYTES = 2**20
_READS = re.compile(r"(?i).*\.(fastq|fq|fasta|fa|fna|bam|cram|sam)(\.(gz|bz2|xz|zst))?")
_TOOL_FILES = ("quant.sf", "abundance.tsv", "abundance.h5", "ReadsPerGene.out.tab", "genes.results")
_SAMPLE_FILE = re.compile(
    r"(?i).*(\.json|\.ndjson|\.jsonl|quant\.sf|quant\.genes\.sf|abundance\.(tsv|h5)|ReadsPerGene\.out\.tab|"
    r"\.genes\.results|\.isoforms\.results|\.counts?|\.htseq|\.tsv|\.txt|\.tab|\.csv)(\.gz|\.bz2|\.xz|\.zst)?"
)


@dataclass(frozen=True)
class Cohort:
    """Samples of a cohort.

    Attributes
    ----------
    files
        One a sample, in order.
    metadata
        What else a manifest says of them, one row each.
    """

    files: list[SampleFile]
    metadata: pa.Table | None = None


def stat_folder(url: str) -> tuple[int, str] | None:
    """Size and age of a folder that is a table; None where there is none."""
    if storage.is_remote(url):
        return (1, "") if folder_kind(url) else None
    found = storage.list_files(url) if os.path.isdir(storage.local_path(url)) else {}
    newest = max((os.stat(os.path.join(storage.local_path(url), name)).st_mtime_ns for name in found), default=0)
    return (sum(found.values()), f"{len(found)} files, {newest}") if found else None


def samples_of(url: str, reading: Reading) -> Cohort | None:
    """The samples that a source lists; None where it is a table by itself.

    Raises
    ------
    InputError
        It is not there, lists no samples, lists reads, or files that are missing.
    """
    from cagdask.io.tables.formats import kind_of

    folder = folder_kind(url)
    if folder == "samples":
        return Cohort(_found(url))
    if folder:
        return None
    found = stat(url)
    if not found:
        raise InputError(f"{url}: there is no such file or store. Check the path.")
    if not found[0]:
        raise InputError(f"{url}: the table is empty. Check the file.")
    kind = kind_of(url)
    if kind == "json":
        return Cohort(read_sheet(url))
    return _manifest(url) if kind == "text" and not reading.no_header else None


# -- manifests -------------------------------------------------------------------------------------------------------


def _manifest(url: str) -> Cohort | None:
    seen, columns = _looked(url)
    if seen is None:
        return None
    paths = [i for i, column in enumerate(columns) if _holds_paths(column)]
    if not paths:
        return None
    reads = [seen.names[i] for i in paths if all(_READS.fullmatch(cell) for cell in columns[i] if cell)]
    if len(reads) == len(paths):
        named = " and ".join(map(repr, reads[:2]))
        raise InputError(
            f"{url}: names reads (column {named}), not abundances. Count them first, with geneshot or salmon, "
            "and name a sheet of what comes out."
        )
    at = next(i for i in paths if seen.names[i] not in reads)
    lowered = [name.strip().lower() for name in seen.names]
    names = next((lowered.index(n) for n in SAMPLE_NAMES if n and n in lowered and lowered.index(n) != at), None)
    if names is None:
        names = next((i for i in range(len(columns)) if i not in paths), None)
    if names is None:
        raise InputError(f"{url}: has a column of paths ({seen.names[at]!r}), none of sample names. Add one.")
    files = locate_all(url, list(zip(columns[names], columns[at], strict=True)))
    rest = [i for i in range(len(columns)) if i not in (names, at) and i not in paths and seen.names[i].strip()]
    held = {seen.names[i]: pa.array(columns[i], pa.string()) for i in rest}
    return Cohort(files, pa.table(held) if held else None)


def _looked(url: str) -> tuple[Look | None, list[list[str]]]:
    """The cells of a small text table by column, if it may be a manifest: some of its text looks like paths."""
    from cagdask.io.fields import read_cells

    try:
        with damage_named(url, "text"), open_plain(url) as (kind, handle):
            if kind != "text" or not _names_a_file(handle):
                return None, []  # as of most tables: all else takes longer
        with damage_named(url, "text"), open_plain(url) as (_, handle):
            seen = look(url, handle)
    except InputError:  # whatever it is, the reader of tables says it better
        return None, []
    if "text" not in seen.kinds or sum(kind == "number" for kind in seen.kinds) > 64:
        return None, []
    with damage_named(url, "text"), open_plain(url) as (_, handle):
        for _ in range(seen.n_skipped):
            handle.readline()
        some = [line.decode("utf-8", "replace").rstrip("\r\n") for line in handle.readlines(2**16)[:20]]
    if not any(_PATHS.fullmatch(cell.strip(' "')) for line in some for cell in line.split(seen.separator)):
        return None, []
    table = read_cells(url, seen, "a sheet of samples")
    return seen, [[str(cell).strip() for cell in column.to_pylist()] for column in table.columns]


def _names_a_file(handle: Any) -> bool:
    """Whether some cell of the first lines ends as names of files do."""
    n_lines = 0
    for _ in range(2_000):  # comments among them
        line = handle.readline(_LINE_BYTES)
        if not line or n_lines == _LINES_WITH_PATHS:
            return False
        if _SOME_PATH.search(line):
            return True
        n_lines += not line.startswith(b"#") and bool(line.strip())
    return False


def _holds_paths(cells: list[str]) -> bool:
    held = [cell for cell in cells if cell]
    return bool(held) and all(_PATHS.fullmatch(cell) for cell in held)


# -- folders and patterns --------------------------------------------------------------------------------------------


def _found(url: str) -> list[SampleFile]:
    path = storage.local_path(url)
    if glob.has_magic(path) and not os.path.exists(path):
        paths = sorted(p for p in glob.glob(path, recursive=True) if os.path.isfile(p))
    else:
        every = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
        paths = sorted(
            p for p in every if _SAMPLE_FILE.fullmatch(os.path.basename(p)) and os.path.basename(p)[0] != "."
        )
        tools = [p for p in paths if os.path.basename(p).endswith(_TOOL_FILES)]
        paths = _one_each(tools) if tools else paths
    if not paths:
        raise InputError(
            f"{url}: holds no files of samples. Name a sheet, a pattern such as 'quants/*/quant.sf', or a table."
        )
    names = _sample_names(paths)
    rows = list(zip(names, paths, strict=True))
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise InputError(f"{url}: two files would be sample {twice!r}. Write a sheet that names each.")
    return locate_all(url, rows)


def _one_each(paths: list[str]) -> list[str]:
    """One file a folder where a tool writes several of the same: kallisto's .tsv beside its .h5."""
    tsv = {os.path.dirname(p) for p in paths if p.endswith("abundance.tsv")}
    return [p for p in paths if not (p.endswith("abundance.h5") and os.path.dirname(p) in tsv)]


def _sample_names(paths: list[str]) -> list[str]:
    """What differs between paths: the file's name without its endings, or else its folder's."""
    bases = [os.path.basename(path) for path in paths]
    if len(set(bases)) == 1 and (len(bases) > 1 or bases[0].startswith(_TOOL_FILES)):
        return [os.path.basename(os.path.dirname(path)) or path for path in paths]
    return [_stem(base) for base in bases]


def _stem(base: str) -> str:
    plain = re.sub(r"(?i)\.(gz|bz2|xz|zst)$", "", base)
    short = re.sub(
        r"(?i)[._]?(ReadsPerGene\.out\.tab|genes\.results|isoforms\.results|quant\.sf|abundance\.(tsv|h5))$", "", plain
    )
    return (short if short != plain else os.path.splitext(plain)[0]) or plain
