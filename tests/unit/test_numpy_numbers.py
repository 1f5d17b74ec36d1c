"""Every number that a public function takes may be NumPy's; what is no number is refused in words, before any work."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import cagdask
from cagdask.simulation.writing import simulate_store
from tests.inline_runner import InlineRunner
from tests.vector_store import write_vectors

NUMBERS: dict[str, dict[str, Any]] = {
    "analogies": {"k": 3, "max_sim": 0.9},
    "assign": {"max_dist": 0.3, "min_size": 2, "min_support": 2.0},
    "associate": {"min_size": 1, "min_prevalence": 0.0},
    "cut": {"max_dist": 0.1},
    "find_cags": {
        "max_dist": 0.2,
        "min_samples": 2,
        "refine_dist": 0.3,
        "probes": 8,
        "fdr": 0.01,
        "seed": 1,
        "stability": 1,
    },
    "label_by_leaders": {"max_dist": 0.5, "block": 50},
    "nmf": {"k": 2, "seed": 1, "tol": 1e-4, "max_passes": 20},
    "nmf_consensus": {"k": 2, "n_replicates": 3, "density_threshold": 1.5, "seed": 1, "tol": 1e-3, "max_passes": 20},
    "nmf_select": {"n_replicates": 3, "seed": 1, "tol": 1e-3, "max_passes": 20},
    "plan": {"max_dist": 0.2},
    "similar": {"k": 3},
    "similar_pairs": {"n": 3},
    "simulate": {"n_genes": 200, "n_samples": 12, "coverage": 1.0, "seed": 1, "loner_share": 0.2},
    "two_pass": {"k": 2, "sample": 30, "n_leaders": 2, "max_dist": 0.5, "block": 50, "seed": 1},
}
"""Of every public function, its numbers, each with a value that is allowed."""
MAY_BE_WORDS = ("clr_floor", "memory_limit", "n_workers", "chunks", "prevalence", "stride", "ks")
"""Numbers that have tests of their own, or do not go with the others."""


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Of every function in :data:`NUMBERS`, what it takes beside its numbers."""
    folder = tmp_path_factory.mktemp("numbers")
    rng = np.random.default_rng(0)
    client = InlineRunner()
    store = str(folder / "r" / "abundance.zarr")
    (folder / "r").mkdir()
    simulate_store(store, 60, 9)
    vectors = write_vectors(str(folder / "v.zarr"), rng.normal(size=(40, 5)))
    result = str(folder / "r" / "cags.zarr")
    cagdask.find_cags(store, max_dist=0.2, output=result, client=client)
    cagdask.two_pass(vectors, k=2, output=str(folder / "t"), client=client)
    return {
        "analogies": {"source": vectors, "a": "g0", "b": "g1", "client": client},
        "assign": {"store": store, "to": result, "client": client},
        "cut": {"result": result, "client": client},
        "find_cags": {"source": store, "client": client},
        "label_by_leaders": {"source": vectors, "leaders": str(folder / "t"), "client": client},
        "nmf": {"source": store, "output": str(folder / "n"), "overwrite": True, "client": client},
        "nmf_consensus": {"source": store, "output": str(folder / "c"), "overwrite": True, "client": client},
        "nmf_select": {"source": store, "ks": [2], "output": str(folder / "s"), "overwrite": True, "client": client},
        "plan": {"source": store},
        "similar": {"source": vectors, "genes": "g0", "client": client},
        "similar_pairs": {"source": vectors, "client": client},
        "simulate": {"output": str(folder / "sim"), "overwrite": True},
        "two_pass": {"source": vectors, "client": client},
    }


def test_the_list_of_numbers_is_complete() -> None:
    for name in cagdask.__all__:
        function = getattr(cagdask, name)
        if not inspect.isfunction(function):
            continue
        found = {
            parameter.name
            for parameter in inspect.signature(function).parameters.values()
            if any(word in str(parameter.annotation) for word in ("int", "float"))
        }
        assert found - set(MAY_BE_WORDS) == set(NUMBERS.get(name, {})), name


def as_numpy(value: Any, wide: bool) -> Any:
    if isinstance(value, int):
        return np.int64(value) if wide else np.uint8(value)
    return np.float64(value) if wide else np.float32(value)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("name", sorted(set(NUMBERS) - {"associate"}))
def test_numbers_of_numpy_are_taken(arguments: dict[str, dict[str, Any]], name: str, wide: bool) -> None:
    getattr(cagdask, name)(**arguments[name], **{key: as_numpy(value, wide) for key, value in NUMBERS[name].items()})


@pytest.mark.parametrize("wrong", [True, "many", np.array([1, 2])])
@pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name in sorted(set(NUMBERS) - {"associate"}) for number in NUMBERS[name]]
)
def test_what_is_no_number_is_refused_by_name(
    arguments: dict[str, dict[str, Any]], name: str, number: str, wrong: Any
) -> None:
    numbers = NUMBERS[name] | {number: wrong}
    with pytest.raises(ValueError, match=rf"`?{number}`? is ") as caught:
        getattr(cagdask, name)(**arguments[name], **numbers)
    assert "\n" not in str(caught.value)
