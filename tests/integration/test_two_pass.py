"""Two-pass clustering with real worker processes, trajectories, planted points, and the notebook's own data."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from cagdask import label_by_leaders, open_dataset, two_pass
from cagdask.compute.connect import connect
from cagdask.compute.runner import Runner
from cagdask.errors import InputError
from cagdask.simulation.writing import simulate_abundance
from cagdask.twopass import trajectories
from tests.conftest import MakeStore, write_abundance_store
from tests.inline_runner import InlineRunner
from tests.integration.test_assign import rand_index

REAL = os.environ.get("CAGDASK_REAL_DATA")
Matrix = NDArray[Any]


def planted_points(n: int, k: int = 12, d: int = 20, seed: int = 0) -> tuple[Matrix, Matrix]:
    """Groups around centers that lie near each other, each group three quarters of the size of the one before."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(0, 1.5, (k, d))
    share = 0.75 ** np.arange(k)
    truth = rng.choice(k, n, p=share / share.sum())
    return (centers[truth] + rng.normal(size=(n, d))).astype(np.float32), truth


@pytest.mark.parametrize("seed", [0, 1])
def test_planted_points_come_back_and_the_notebooks_recipe_loses_them(tmp_path: Path, seed: int) -> None:
    points, truth = planted_points(20_000, seed=seed)
    url = str(tmp_path / "points.zarr")
    write_abundance_store(url, points, kind="expression")
    options: dict[str, Any] = {"k": 12, "stride": 20}
    ours = two_pass(url, client=InlineRunner(), **options)
    theirs = two_pass(url, compat="mdtraj-notebook", client=InlineRunner(), **options)
    found, recipe = (rand_index(ds.item_cluster.values, truth) for ds in (ours, theirs))
    assert found >= 0.95
    assert found - recipe >= 0.15
    drawn, first = ours.draw_row.values, ours.draw_cluster.values
    assert (ours.item_cluster.values[drawn] == first).mean() >= 0.98


def test_workers_chunks_and_blocks_change_no_byte(abundance_store: MakeStore, tmp_path: Path, runner: Runner) -> None:
    points, _ = planted_points(24, 4)
    digests = set()
    with connect(n_workers=1, memory_limit="2GiB") as single:
        for n, client in ((1, single), (2, runner)):
            for chunk in (1, 7, 1000):
                output = tmp_path / f"{n}-{chunk}"
                store = abundance_store(points, chunk_rows=chunk, kind="expression")
                block = chunk if chunk > 1 else None
                two_pass(store, k=4, sample=12, seed=3, block=block, output=str(output), client=client)
                digests.add(hashlib.sha256((output / "labels.parquet").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_samples_of_a_cohort_are_turned_round_on_the_workers(
    abundance_store: MakeStore, tmp_path: Path, runner: Runner
) -> None:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist

    matrix, _ = simulate_abundance(500, 24, seed=2)
    ds = two_pass(
        abundance_store(matrix, chunk_rows=100),
        of="samples",
        k=4,
        metric="correlation",
        linkage="average",
        client=runner,
    )
    expected = fcluster(linkage(pdist(matrix.T.astype(float), "correlation"), "average"), 4, "maxclust")
    assert rand_index(ds.draw_cluster.values, expected) == pytest.approx(1)
    assert ds.item_id.values[3] == "sample_003"


_PEAK = """
import sys
import numpy as np
from cagdask import storage
from cagdask.compute.connect import connect
from cagdask.leaders.twopass import two_pass
if __name__ == "__main__":
    url, n = sys.argv[1], int(sys.argv[2])
    group = storage.create_group(url, {"schema_version": 1, "kind": "expression"})
    rng = np.random.default_rng(0)
    array = storage.create_array(group, "abundance", (n, 50), chunks=(10_000, 50))
    for begin in range(0, n, 10_000):
        array[begin : begin + 10_000] = rng.normal(size=(10_000, 50))
    storage.write_array(group, "gene_id", np.array([f"g{i}" for i in range(n)], object))
    storage.write_array(group, "sample_id", np.array([f"s{i}" for i in range(50)], object))
    with connect(n_workers=1, memory_limit="600MiB") as runner:
        two_pass(url, k=5, sample=1000, output=url + ".out", client=runner)
        print(max(used.peak_bytes for used in runner.usage))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_items(tmp_path: Path) -> None:
    script = tmp_path / "peak.py"
    script.write_text(_PEAK)
    peaks = []
    for n in (100_000, 1_000_000):
        command = [sys.executable, str(script), str(tmp_path / f"{n}.zarr"), str(n)]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]))
    assert peaks[1] <= 1.2 * peaks[0], peaks


# -- trajectories ----------------------------------------------------------------------------------------------------


@pytest.fixture
def md() -> Any:
    """The library mdtraj, if it is there."""
    pytest.importorskip("tables")
    return pytest.importorskip("mdtraj")


def molecule(md: Any, n_atoms: int = 6, n_frames: int = 90, seed: int = 0) -> tuple[Any, Matrix]:
    """Frames around three shapes of a chain, each turned and moved by chance."""
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(seed)
    topology = md.Topology()
    chain = topology.add_chain()
    residue = topology.add_residue("ALA", chain)
    for i in range(n_atoms):
        topology.add_atom(f"C{i}", md.element.carbon, residue)
    truth = rng.integers(0, 3, n_frames)
    shapes = np.random.default_rng(1).normal(0, 0.3, (3, n_atoms, 3))
    xyz = shapes[truth] + rng.normal(0, 0.01, (n_frames, n_atoms, 3))
    turned = np.stack([Rotation.random(rng=rng).apply(frame) + rng.normal(size=3) for frame in xyz])
    return md.Trajectory(turned.astype(np.float32), topology), truth


def rmsd(a: Matrix, b: Matrix) -> float:
    """RMSD after superposition, from its definition."""
    from scipy.spatial.transform import Rotation

    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return float(Rotation.align_vectors(a, b)[1] / np.sqrt(len(a)))


def test_rmsd_is_that_of_its_definition(md: Any) -> None:
    frames, _ = molecule(md, n_frames=12)
    rows = frames.xyz.reshape(12, -1).astype(float)
    expected = [[rmsd(a, b) for b in frames.xyz[:4]] for a in frames.xyz]
    np.testing.assert_allclose(trajectories.rmsd_to(rows, rows[:4]), expected, atol=1e-3)
    i, j = np.triu_indices(12, 1)
    np.testing.assert_allclose(trajectories.rmsd_among(rows), trajectories.rmsd_to(rows, rows)[i, j], atol=1e-6)


@pytest.mark.parametrize("suffix", [".h5", ".xtc", ".dcd"])
def test_frames_of_several_files_come_back(md: Any, tmp_path: Path, suffix: str) -> None:
    frames, truth = molecule(md)
    for i, part in enumerate((frames[:40], frames[40:])):
        part.save(str(tmp_path / f"{i}{suffix}"))
    frames[0].save(str(tmp_path / "top.pdb"))
    urls = [str(tmp_path / f"{i}{suffix}") for i in range(2)]
    top = None if suffix == ".h5" else str(tmp_path / "top.pdb")
    found = [
        two_pass(urls, k=3, stride=4, linkage="average", topology=top, block=block, client=InlineRunner())
        for block in (None, 1, 7)
    ]
    assert rand_index(found[0].item_cluster.values, truth) == 1
    for ds in found[1:]:
        for name in ("item_cluster", "item_distance", "item_margin"):
            assert ds[name].values.tobytes() == found[0][name].values.tobytes()
    held = two_pass(urls, k=2, n_leaders=1, stride=3, topology=top, max_dist=0.05, client=InlineRunner())
    assert (held.item_cluster.values == 0).any()


def test_leaders_label_other_frames_of_the_same_molecule(md: Any, tmp_path: Path, runner: Runner) -> None:
    frames, truth = molecule(md)
    frames[:50].save(str(tmp_path / "a.h5"))
    frames[50:].save(str(tmp_path / "b.h5"))
    molecule(md, n_atoms=7)[0].save(str(tmp_path / "other.h5"))
    fitted = str(tmp_path / "fitted")
    ds = two_pass(str(tmp_path / "a.h5"), k=3, linkage="average", output=fitted, client=runner)
    more = label_by_leaders(str(tmp_path / "b.h5"), leaders=fitted, client=runner)
    assert rand_index(np.concatenate([ds.item_cluster.values, more.item_cluster.values]), truth) == 1
    with pytest.raises(InputError, match=r"its 7 atoms are not the 6 of .*a\.h5"):
        two_pass([str(tmp_path / "a.h5"), str(tmp_path / "other.h5")], k=3, client=InlineRunner())
    with pytest.raises(ValueError, match="its 21 values per item are not the 18"):
        label_by_leaders(str(tmp_path / "other.h5"), leaders=fitted, client=InlineRunner())


def test_trajectories_that_can_not_be_used(md: Any, tmp_path: Path) -> None:
    frames, _ = molecule(md, n_frames=5)
    for name in ("a.xtc", "a.h5"):
        frames.save(str(tmp_path / name))
    molecule(md, n_atoms=7, n_frames=1)[0].save(str(tmp_path / "seven.pdb"))
    (tmp_path / "bad.h5").write_bytes(b"not HDF5")
    (tmp_path / "bad.txt").write_bytes(b"")

    def refused(name: str, message: str, **options: Any) -> None:
        with pytest.raises(ValueError, match=message):
            two_pass(str(tmp_path / name), k=2, client=InlineRunner(), **options)

    refused("a.xtc", r"a\.xtc: has no topology of its own.*`topology`")
    refused("a.xtc", r"has 6 atoms, but .*seven\.pdb has 7", topology=str(tmp_path / "seven.pdb"))
    refused("a.xtc", r"bad\.txt: holds no topology", topology=str(tmp_path / "bad.txt"))
    refused("bad.h5", r"bad\.h5: can not be read as a trajectory")
    refused("none.h5", "there is no such file")
    refused("a.h5", "frames have the metric rmsd", metric="euclidean")
    refused("a.h5", "`k` is 2, but the sample has 1 frames", stride=9)


def test_without_mdtraj_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.xtc").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "mdtraj", None)
    with pytest.raises(InputError, match=r"pip install 'cagdask\[mdtraj\]'"):
        two_pass(str(tmp_path / "a.xtc"), k=2, client=InlineRunner())


@pytest.mark.skipif(not REAL, reason="CAGDASK_REAL_DATA names no folder of real data")
def test_the_notebooks_own_labels(md: Any, tmp_path: Path, runner: Runner) -> None:
    url = os.path.join(REAL or "", "09_two_pass_mdtraj", "ala2.h5")
    ds = two_pass(url, k=3, compat="mdtraj-notebook", output=str(tmp_path / "out"), client=runner)
    published = [2, 3, 3, 3, 1, 1, 3, 2, 1, 2, 3, 3, 3, 2, 2, 2, 2, 2, 1, 1]
    assert ds.draw_cluster.values.tolist() == published
    leaders = md.load(url)[ds.leader_row.values.tolist()]
    of = ds.leader_cluster.values
    theirs = [of[np.argmin(md.rmsd(leaders, frame, 0))] for frame in md.iterload(url, chunk=1)]
    assert ds.item_cluster.values.tolist() == theirs
    proper = two_pass(url, k=3, stride=5, client=runner)
    assert rand_index(proper.draw_cluster.values, np.array(published)) < 1
    table = pq.read_table(tmp_path / "out" / "labels.parquet")
    assert table.column("cluster").to_pylist() == theirs
    assert open_dataset(str(tmp_path / "out" / "labels.zarr")).sizes["item"] == 100
