"""CAGs of two results are matched by the genes they hold, never by their numbers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cagdask
from cagdask import storage
from cagdask.errors import InputError
from cagdask.factors.contents import contents_of
from tests.inline_runner import InlineRunner
from tests.result_store import write_result_store

MakeStore = Callable[..., str]


def factorized(source: str, output: Path, k: int = 2) -> str:
    cagdask.nmf(source, k=k, output=str(output), client=InlineRunner())
    return str(output)


def projected(source: str, reference: str, output: Path) -> tuple[Any, dict[str, Any]]:
    ds = cagdask.nmf_project(source, reference=reference, output=str(output), client=InlineRunner())
    return ds, json.loads((output / "nmf.json").read_text())


def put_abundance(result: str, values: np.ndarray) -> None:
    storage.open_array(result, "cag_abundance", writable=True)[...] = values


def renumbered(result: str, url: str, labels: Sequence[int], order: np.ndarray) -> str:
    """The same groups of genes and abundances under other numbers: old CAG ``order[i]`` is CAG ``i``."""
    number = np.argsort(order)
    genes = [f"gene{i}" for i in range(len(labels))]
    mixed = np.random.default_rng(3).permutation(len(labels))  # and the genes in another order
    write_result_store(url, [int(number[labels[i]]) for i in mixed], [genes[i] for i in mixed], n_samples=12)
    put_abundance(url, storage.open_array(result, "cag_abundance")[:][order])
    return url


def test_the_same_groups_under_other_numbers_are_found(tmp_path: Path) -> None:
    labels = [i % 20 for i in range(70)]
    result = write_result_store(str(tmp_path / "cags.zarr"), labels, n_samples=12)
    reference = factorized(result, tmp_path / "ref")
    other = renumbered(result, str(tmp_path / "other.zarr"), labels, np.random.default_rng(1).permutation(20))
    same, counts = projected(result, reference, tmp_path / "same")
    found, others = projected(other, reference, tmp_path / "found")
    assert (counts["n_matched"], others["n_matched"]) == (20, 20)
    np.testing.assert_allclose(found.sample_latent.values, same.sample_latent.values, rtol=1e-4, atol=1e-6)
    assert others["r2"] == pytest.approx(counts["r2"], abs=1e-6)
    assert others["r2"] > 0


def test_other_groups_with_the_same_numbers_are_refused(tmp_path: Path) -> None:
    result = write_result_store(str(tmp_path / "a.zarr"), [i % 10 for i in range(60)], n_samples=12)
    reference = factorized(result, tmp_path / "ref")
    other = write_result_store(str(tmp_path / "b.zarr"), [i // 6 for i in range(60)], n_samples=12)
    with pytest.raises(InputError, match=r"b\.zarr: none of its 10 CAGs holds the same genes.*10 of .*ref") as caught:
        projected(other, reference, tmp_path / "p")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "p").exists()


def test_a_cag_with_one_gene_more_is_another(tmp_path: Path) -> None:
    result = write_result_store(str(tmp_path / "a.zarr"), [0, 0, 0, 1, 1, 2, 2, 3], n_samples=12)
    reference = factorized(result, tmp_path / "ref")
    other = write_result_store(str(tmp_path / "b.zarr"), [0, 0, 0, 1, 1, 2, 2, 2], n_samples=12)
    _, counts = projected(other, reference, tmp_path / "p")
    assert (counts["n_matched"], counts["n_reference"]) == (2, 4)


def test_genes_are_not_projected_on_cags_nor_cags_on_genes(abundance_store: MakeStore, tmp_path: Path) -> None:
    result = write_result_store(str(tmp_path / "cags.zarr"), [i % 9 for i in range(40)], n_samples=12)
    genes = abundance_store(np.random.default_rng(0).random((30, 12)), [str(i) for i in range(30)])
    of_cags, of_genes = factorized(result, tmp_path / "c"), factorized(genes, tmp_path / "g")
    with pytest.raises(InputError, match=r"its rows are genes, but those of .*c/factors\.zarr are CAGs"):
        projected(genes, of_cags, tmp_path / "p")
    with pytest.raises(InputError, match=r"cags\.zarr: its rows are CAGs, but those of .*g/factors\.zarr are genes"):
        projected(result, of_genes, tmp_path / "p")


def test_factors_of_cags_without_their_genes_are_refused(tmp_path: Path) -> None:
    result = write_result_store(str(tmp_path / "cags.zarr"), [i % 9 for i in range(40)], n_samples=12)
    reference = factorized(result, tmp_path / "ref")
    url = str(tmp_path / "ref" / "factors.zarr")
    group = storage.create_group(str(tmp_path / "old" / "factors.zarr"), dict(storage.open_group(url).attrs))
    for name in ("gene_id", "sample_id", "gene_loading", "sample_latent"):
        storage.write_array(group, name, np.asarray(storage.open_array(url, name)[:]))
    storage.finish_group(group)
    (tmp_path / "old" / "nmf.json").write_text((Path(reference) / "nmf.json").read_text())
    with pytest.raises(InputError, match=r"does not say which genes its CAGs hold.*Run cagdask nmf again"):
        projected(result, str(tmp_path / "old"), tmp_path / "p")


@given(st.lists(st.integers(-1, 6), min_size=7, max_size=40), st.randoms(use_true_random=False))
def test_contents_are_equal_for_equal_sets_of_genes_alone(tmp_path: Path, labels: list[int], random: Any) -> None:
    labels[:7] = list(range(7))
    genes = [f"gene{i}" for i in range(len(labels))]
    url = write_result_store(str(tmp_path / "one.zarr"), labels, genes)
    order = list(range(len(labels)))
    random.shuffle(order)
    again = write_result_store(str(tmp_path / "two.zarr"), [6 - labels[i] if labels[i] >= 0 else -1 for i in order],
                               [genes[i] for i in order])  # fmt: skip
    one, two = (np.stack(contents_of(store), axis=1).tolist() for store in (url, again))
    assert one == two[::-1]
    assert len({tuple(row) for row in one}) == 7
    for store in (url, again):
        storage.remove(store)


def test_programs_that_explain_less_than_the_means_are_a_warning(
    abundance_store: MakeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    block = np.kron(np.eye(2), np.ones((20, 6)))
    reference = factorized(abundance_store(block + 0.01 * rng.random(block.shape)), tmp_path / "ref")
    other = np.ones((40, 12))
    other[::2] = 5 + rng.random((20, 12))
    with caplog.at_level(logging.WARNING, "cagdask"):
        _, found = projected(abundance_store(other), reference, tmp_path / "p")
    assert found["r2"] < 0
    assert "the gene means alone explain more" in caplog.text
