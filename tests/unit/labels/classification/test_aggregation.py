"""A model of CAGs, applied to stores and tables of genes: the same values as the result has, by gene id."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cagdask
from cagdask import storage
from cagdask.errors import InputError
from cagdask.labels.classification import aggregation
from cagdask.labels.classification.prediction import read_card
from tests.conftest import write_abundance_store
from tests.inline_runner import InlineRunner

N_GROUPS, N_GENES, N_SAMPLES = 8, 40, 40


def table(seed: int, n_samples: int = N_SAMPLES) -> tuple[pd.DataFrame, pd.Series]:
    """Genes x samples in groups of five that rise and fall together; the first group is higher in cases."""
    rng = np.random.default_rng(seed)
    case = np.arange(n_samples) % 2 == 0
    level = rng.normal(0, 1, (N_GROUPS, n_samples))
    level[0, case] += 4
    values = np.exp(np.repeat(level, N_GENES // N_GROUPS, axis=0) + rng.normal(0, 0.05, (N_GENES, n_samples)))
    values *= rng.lognormal(2, 0.5, n_samples)
    names = [f"person{seed}_{j}" for j in range(n_samples)]
    frame = pd.DataFrame(values, index=pd.Index([f"gene{i}" for i in range(N_GENES)], name="gene"), columns=names)
    return frame, pd.Series(np.where(case, "case", "healthy"), index=pd.Index(names, name="sample"), name="state")


@pytest.fixture(scope="module", params=["sum", "clr"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(f"cags-{request.param}")
    frame, state = table(0)
    write_abundance_store(str(folder / "abundance.zarr"), frame.to_numpy(), list(frame.index), list(frame.columns))
    state.to_csv(folder / "l.tsv", sep="\t")
    runner, max_dist = InlineRunner(), {"sum": 0.2, "clr": 0.02}[request.param]
    cagdask.find_cags(str(folder / "abundance.zarr"), output=str(folder / "cags.zarr"), max_dist=max_dist,
                      normalization=request.param, client=runner)  # fmt: skip
    cagdask.classify(str(folder / "cags.zarr"), labels=str(folder / "l.tsv"), output=str(folder / "m"), client=runner,
                     model="logistic", n_features=4)  # fmt: skip
    return folder


def predicted(made: Path, new: Any, tmp_path: Path, **options: Any) -> pd.DataFrame:
    return cagdask.predict(
        str(made / "m"), new, output=str(tmp_path / "p.tsv"), overwrite=True, client=InlineRunner(), **options
    )


def test_genes_give_the_cags_of_the_result(made: Path, tmp_path: Path) -> None:
    model, store = str(made / "m"), str(made / "abundance.zarr")
    card = read_card(model)
    held = aggregation_source(store)
    means, counts = aggregation.cag_means(model, card, held, "error", InlineRunner(), str(tmp_path))
    rows = [int(name) for name in card["features"]["names"]]
    expected = np.asarray(storage.open_array(str(made / "cags.zarr"), "cag_abundance")[:])[rows].T
    np.testing.assert_allclose(means.read(0, N_SAMPLES), expected, rtol=2e-6)
    np.testing.assert_array_equal(means.read(3, 9), means.read(0, N_SAMPLES)[3:9])
    assert counts["n_genes_found"] == counts["n_genes_of_model"] > 4
    by_cags, by_genes = (predicted(made, str(made / name), tmp_path) for name in ("cags.zarr", "abundance.zarr"))
    assert by_genes.call.tolist() == by_cags.call.tolist()
    np.testing.assert_allclose(by_genes.probability, by_cags.probability, atol=1e-4)


def aggregation_source(store: str) -> Any:
    from cagdask.labels.classification.features import open_source

    return open_source(store, "genes").matrix


def test_a_table_of_new_samples_gets_labels(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame, state = table(1)
    order = np.random.default_rng(0).permutation(N_GENES)
    frame.iloc[order].to_csv(tmp_path / "new.tsv", sep="\t")
    found = predicted(made, str(tmp_path / "new.tsv"), tmp_path)
    assert found["sample"].tolist() == list(frame.columns)
    assert (found.predicted.to_numpy() == state.to_numpy()).mean() > 0.9
    assert not list(tmp_path.glob("*.zarr")), "the store that was made of the table is removed"
    write_abundance_store(str(tmp_path / "c.zarr"), frame.to_numpy(), list(frame.index), list(frame.columns), 7)
    pd.testing.assert_frame_equal(predicted(made, str(tmp_path / "c.zarr"), tmp_path).assign(probability=0.0),
                                  found.assign(probability=0.0), rtol=1e-5)  # fmt: skip
    with caplog.at_level(logging.WARNING):
        fewer = predicted(made, frame.drop(index=["gene0", "gene7"]), tmp_path)
    n = found.attrs["n_genes_of_model"]
    assert found.attrs == {"n_genes_of_model": n, "n_genes_found": n, "n_cags_without_genes": 0}
    assert fewer.attrs["n_genes_found"] < n
    assert f"has {fewer.attrs['n_genes_found']} of the {n} genes of the CAGs" in caplog.text
    assert (fewer.predicted.to_numpy() == state.to_numpy()).mean() > 0.9


def test_genes_that_are_lacking_are_absent_if_asked(made: Path, tmp_path: Path) -> None:
    model, card = str(made / "m"), read_card(str(made / "m"))
    frame, _ = table(1, 6)
    names = list(frame.columns)
    lacking = frame.drop(index=["gene0", "gene1"])
    write_abundance_store(str(tmp_path / "less.zarr"), lacking.to_numpy(), list(lacking.index), names)
    absent = frame.copy()
    absent.loc[["gene0", "gene1"]] = 0
    write_abundance_store(str(tmp_path / "zero.zarr"), absent.to_numpy(), list(absent.index), names)
    found = {}
    for name, missing in (("less", "zero"), ("zero", "error"), ("less", "error")):
        held = aggregation_source(str(tmp_path / f"{name}.zarr"))
        place = str(tmp_path / f"{name}-{missing}")
        found[name, missing] = aggregation.cag_means(model, card, held, missing, InlineRunner(), place)[0].read(0, 6)
    np.testing.assert_allclose(found["less", "zero"], found["zero", "error"], rtol=1e-6)
    assert not np.allclose(found["less", "error"], found["zero", "error"])


def test_values_of_a_sample_do_not_depend_on_the_other_samples(made: Path, tmp_path: Path) -> None:
    """What an absent gene is after log ratios comes from the model, not from the table at hand."""
    model, card = str(made / "m"), read_card(str(made / "m"))
    frame, _ = table(1, 6)
    frame = frame.where(np.random.default_rng(2).random(frame.shape) < 0.6, 0.0)
    found = {}
    for some in (slice(0, 6), slice(4, 5)):
        part = frame.iloc[:, some]
        write_abundance_store(str(tmp_path / f"{some}.zarr"), part.to_numpy(), list(part.index), list(part.columns))
        held, place = aggregation_source(str(tmp_path / f"{some}.zarr")), str(tmp_path / f"of {some}")
        means = aggregation.cag_means(model, card, held, "error", InlineRunner(), place)[0]
        found[some.start] = means.read(0, part.shape[1])
    np.testing.assert_allclose(found[0][4:5], found[4], rtol=1e-6)


def test_genes_of_other_names_or_another_normalization_are_refused(made: Path, tmp_path: Path) -> None:
    frame, _ = table(1)
    with pytest.raises(InputError, match=r"has none of the \d+ genes of the CAGs of .*, such as 'gene\d+'"):
        predicted(made, frame.rename(index=lambda name: f"x{name}"), tmp_path)
    card = read_card(str(made / "m"))
    assert card["features"]["normalization"] in ("sum", "clr")
    members = pd.read_parquet(made / "m" / "members.parquet")
    first = members.gene[members.feature == 0]
    number = card["features"]["names"][0]
    with pytest.raises(InputError, match=rf"1 of the 4 CAGs of .* have no gene there: {number}\. Check"):
        predicted(made, frame.drop(index=list(first)), tmp_path)
    write_abundance_store(str(tmp_path / "a.zarr"), frame.to_numpy(), list(frame.index), list(frame.columns))
    for method in ("hellinger", "clr"):  # clr begins at a floor, and CAGs are means of log ratios without one
        ds = cagdask.normalize(cagdask.open_dataset(str(tmp_path / "a.zarr")), method=method)
        cagdask.save_dataset(ds, str(tmp_path / f"{method}.zarr"))
        said = rf"is normalized by {method}, and the CAGs of .* come from values normalized"
        with pytest.raises(InputError, match=said):
            predicted(made, str(tmp_path / f"{method}.zarr"), tmp_path)
    assert not (tmp_path / "p.tsv").exists()
