"""Arrays that tasks hand on come back as they were, and only as they were declared."""

from __future__ import annotations

import ast
import errno
import importlib
import json
import pkgutil
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import cagdask
from cagdask import storage
from cagdask.errors import StoreError
from cagdask.storage import arrays
from cagdask.storage.arrays import ALIGNMENT, FILE, Files, array


class Pair(Files):
    """Two arrays of one length."""

    value: NDArray[np.float64] = array(np.float64, "row, column", "values")
    name: NDArray[np.uint64] = array(np.uint64, "row", "numbers")


class Triple(Pair):
    """A pair with something beside it."""

    edge: NDArray[np.int32] = array(np.int32, "edge, 2", "pairs of numbers")


def triple(n: int = 4) -> Triple:
    edge = np.arange(2 * n + 2, dtype=np.int32).reshape(-1, 2)
    return Triple(value=np.arange(3.0 * n).reshape(n, 3), name=np.arange(n, dtype=np.uint64) + 2**63, edge=edge)


@pytest.mark.parametrize("where", ["local", "memory"])
@pytest.mark.parametrize("n", [0, 1, 4, 3000])
def test_what_is_written_is_opened(tmp_path: Path, where: str, n: int) -> None:
    folder = str(tmp_path / "a" / "b") if where == "local" else f"memory://{tmp_path.name}"
    given_ = triple(n)
    for _ in range(2):  # a task may run twice
        given_.write(folder)
    found = Triple.open(folder)
    for name in Triple.declared:
        wanted, values = getattr(given_, name), getattr(found, name)
        np.testing.assert_array_equal(values, wanted)
        assert values.dtype == wanted.dtype
        assert values.flags.c_contiguous
        assert not values.flags.writeable
    assert found.nbytes == sum(getattr(given_, name).nbytes for name in Triple.declared)
    np.testing.assert_array_equal(Pair.open(folder).name, given_.name)  # one of a subclass is one of its base
    for begin, end in ((1, 3), (0, 0), (2, None), (None, 2), (2, 10**6), (3, 1)):
        np.testing.assert_array_equal(Pair.open(folder, begin, end).value, given_.value[begin:end])
    assert [len(pair.name) for pair in Pair.open_all([folder, folder])] == [n, n]


def test_one_file_per_folder_holds_all(tmp_path: Path) -> None:
    triple().write(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_few_bytes_of_a_remote_file_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, n = f"memory://{tmp_path.name}", 100_000
    triple(n).write(folder)
    fetched = []
    read_range = storage.read_range

    def counted(url: str, start: int, end: int) -> bytes:
        fetched.append(end - start)
        return read_range(url, start, end)

    monkeypatch.setattr(storage, "read_range", counted)
    assert Triple.open(folder, 50_000, 50_010).value.shape == (10, 3)
    assert fetched == [arrays.HEAD_BYTES, 10 * 3 * 8]


_DTYPES = st.one_of(hnp.integer_dtypes(), hnp.floating_dtypes(), hnp.unsigned_integer_dtypes(), st.just(np.dtype(bool)))


@given(
    st.lists(hnp.arrays(_DTYPES, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)), max_size=5),
    st.booleans(),
)
def test_any_shape_and_dtype_comes_back(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[NDArray[Any]], is_remote: bool
) -> None:
    folder = str(tmp_path_factory.mktemp("arrays"))
    folder = f"memory://{folder}" if is_remote else folder
    names = [f"drawn_{i}" for i in range(len(drawn))]
    fields = {
        name: array(values.dtype, ", ".join(f"{name} {axis}" for axis in range(values.ndim)), "as drawn")
        for name, values in zip(names, drawn, strict=True)
    }
    declared: Any = type("Drawn", (Files,), {"__annotations__": dict.fromkeys(names, Any), **fields})
    declared(**{name: values[::-1] for name, values in zip(names, drawn, strict=True)}).write(folder)
    found = declared.open(folder)
    for name, values in zip(names, drawn, strict=True):
        back = getattr(found, name)
        assert back.dtype == values.dtype
        assert back.shape == values.shape
        assert back.tobytes() == values[::-1].tobytes()
        if not is_remote and back.size:
            assert back.ctypes.data % ALIGNMENT == 0


def test_header_says_what_numpy_finds_there(tmp_path: Path) -> None:
    """The file is read here by its description alone."""
    given_ = triple(7)
    given_.write(str(tmp_path))
    data = (tmp_path / FILE).read_bytes()
    n_header = int.from_bytes(data[8:16], "little")
    header = arrays.read_header(FILE, data)
    assert list(header) == list(json.loads(data[16 : 16 + n_header])) == ["value", "name", "edge"]
    for name, (dtype, shape, offset) in header.items():
        assert offset % ALIGNMENT == 0
        values = np.fromfile(tmp_path / FILE, dtype, int(np.prod(shape)), offset=offset).reshape(shape)
        np.testing.assert_array_equal(values, getattr(given_, name))


@pytest.mark.parametrize("where", ["local", "memory"])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, where: str) -> None:
    folder = str(tmp_path) if where == "local" else f"memory://{tmp_path.name}"
    url = storage.join(folder, FILE)
    triple(5000).write(folder)
    data = storage.read_bytes(url)
    for kept in (0, 7, 15, 40, 100, arrays.HEAD_BYTES, len(data) - 1):
        storage.write_bytes(url, data[:kept])
        with pytest.raises(StoreError, match=r"arrays\.bin: .*Delete the work folder") as caught:
            _ = Triple.open(folder).edge
        if kept > 200:
            assert "is cut off" in str(caught.value)
    storage.write_bytes(url, b"\x93NUMPY" + data[6:])
    with pytest.raises(StoreError, match="does not begin as files of arrays do"):
        Triple.open(folder)


def test_nothing_written_is_no_file(tmp_path: Path) -> None:
    for folder in (str(tmp_path / "none"), f"memory://{tmp_path.name}"):
        with pytest.raises(FileNotFoundError):
            Pair.open(folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"value": np.zeros((4, 3), np.float32)}, r"Triple\.value is float32 \(4, 3\); declared is float64"),
        ({"value": np.zeros(4)}, r"Triple\.value is float64 \(4,\); declared is float64 \(row, column\)"),
        ({"name": np.zeros(5, np.uint64)}, r"Triple\.name is uint64 \(5,\).* here \(4,\)"),
        ({"edge": np.zeros((4, 3), np.int32)}, r"Triple\.edge .* here \(4, 2\)"),
        ({"value": np.array([[{}]], object)}, r"Triple\.value is object"),
    ],
)
def test_what_was_not_declared_is_not_written(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    held: dict[str, Any] = {name: getattr(triple(), name) for name in Triple.declared}
    with pytest.raises(TypeError, match=message):
        Triple(**held | changed).write(str(tmp_path))
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        Triple(**held, other=np.zeros(3))  # type: ignore[call-arg]
    triple().write(str(tmp_path))
    with pytest.raises(AttributeError, match="Pair declares no array 'edge'"):
        _ = Pair.open(str(tmp_path)).edge  # type: ignore[attr-defined]


def test_what_stops_writing_is_told(tmp_path: Path) -> None:
    """A full disk, here a limit of the process; NumPy's own writing counts items, and does not say why."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            triple(100_000).write(str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())


# -- the package -----------------------------------------------------------------------------------------------------


def _modules() -> dict[str, Path]:
    found = pkgutil.walk_packages(cagdask.__path__, "cagdask.")
    return {module.name: Path(str(importlib.util.find_spec(module.name).origin)) for module in found}  # type: ignore[union-attr]


def _declarations(kind: type[Files]) -> list[type[Files]]:
    return [below for child in kind.__subclasses__() for below in [child, *_declarations(child)]]


def test_arrays_are_named_by_their_declarations_alone() -> None:
    """Only attributes name them: nothing reads an attribute, or writes an array, by a name in a string."""
    for name in (modules := {name: path for name, path in _modules().items() if "Files" in path.read_text()}):
        importlib.import_module(name)
    declared = [kind for kind in _declarations(Files) if kind.__module__.startswith("cagdask.")]
    assert len(declared) > 25
    assert all(kind.declared for kind in declared)
    names = {name for kind in declared for name in kind.declared}
    by_name = {"getattr", "setattr", "attrgetter", "load", "load_all", "save", "savez"}
    wrong = []
    for module, path in modules.items():
        if module == "cagdask.storage.arrays":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            of_self = bool(node.args) and isinstance(node.args[0], ast.Name) and node.args[0].id == "self"
            literals = {part.value for part in node.args[1:] if isinstance(part, ast.Constant)}
            is_harmless = called == "getattr" and literals and not literals & names
            if called in by_name and not of_self and not is_harmless and (len(node.args) > 1 or node.keywords):
                wrong.append(f"{module}:{node.lineno}: {ast.unparse(node)}")
    assert not wrong


def test_files_in_memory_are_what_files_would_be_and_leave_only_what_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    with arrays.in_memory(str(folder)) as write:
        for name in ("kept", "not-kept", "removed"):
            given_ = triple()
            given_.write(str(folder / name))
            given_.value[:] = -1  # what was written does not change
        arrays.remove(str(folder / "removed"))
        with pytest.raises(FileNotFoundError):
            Triple.open(str(folder / "removed"))
        assert not folder.exists()
        found = Triple.open(str(folder / "kept"), 1, 3)
        np.testing.assert_array_equal(found.value, triple().value[1:3])
        assert found.value.flags.c_contiguous
        assert found.value.flags.aligned
        assert not found.value.flags.writeable
        triple().write(str(tmp_path / "elsewhere"))
        place, other = write([str(folder / "kept"), str(tmp_path / "elsewhere")])
    assert other == str(tmp_path / "elsewhere")
    assert [path.parent for path in folder.rglob(FILE)] == [Path(place)]
    np.testing.assert_array_equal(Triple.open(place).edge, triple().edge)
    with pytest.raises(FileNotFoundError):
        Triple.open(str(folder / "not-kept"))


def test_nothing_is_held_after_an_error(tmp_path: Path) -> None:
    def write_and_stop() -> None:
        with arrays.in_memory(str(tmp_path)):
            triple().write(str(tmp_path / "a"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_stop()
    with pytest.raises(FileNotFoundError):
        Triple.open(str(tmp_path / "a"))
    triple().write(str(tmp_path / "a"))
    assert (tmp_path / "a" / FILE).exists()
