"""Tests of labelled samples on real cohorts, against SciPy and statsmodels one feature at a time.

The cohorts are those of MLRepo (knights-lab/MLRepo, MIT), in the folder that CAGDASK_REAL_DATA names.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats as ss
import statsmodels.api as sm

import cagdask
from cagdask.labels.association import associate
from tests.inline_runner import InlineRunner

FOLDER = Path(os.environ.get("CAGDASK_REAL_DATA", ""), "04_mlrepo_labelled")
COHORTS = {
    "ravel": ("gg_otutable.txt.gz", "task-nugent-category.txt", "low", "high"),
    "karlsson": ("taxatable.txt.gz", "task-normal-diabetes.txt", "NGT", "T2D"),
    "kostic": ("gg_otutable.txt.gz", "task.txt", "Healthy", "Tumor"),
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "CAGDASK_REAL_DATA" not in os.environ or not FOLDER.is_dir(),
        reason="CAGDASK_REAL_DATA names no folder of labelled cohorts",
    ),
]
Ask = Callable[..., tuple[pd.DataFrame, Any, pd.DataFrame, Any]]


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Store of a cohort, each sample over its sum; made once."""
    folder = tmp_path_factory.mktemp("cohorts")

    def made(name: str) -> str:
        store = folder / f"{name}-shares.zarr"
        if not store.exists():
            table = str(FOLDER / name / COHORTS[name][0])
            ds = cagdask.ingest(
                table, store=str(folder / f"{name}.zarr"), exclude_genes="^$", duplicate_genes="sum",
                client=InlineRunner(),
            )  # fmt: skip
            cagdask.save_dataset(cagdask.normalize(ds, method="sum"), str(store))
        return str(store)

    return made


@pytest.fixture
def ask(shares: Callable[[str], str]) -> Ask:
    """What a test says of a cohort: the table by gene; values of both groups, float64; labels in their order."""

    def asked(name: str, **options: Any) -> tuple[pd.DataFrame, Any, pd.DataFrame, Any]:
        store, (_, task, *groups) = shares(name), COHORTS[name]
        labels = FOLDER / name / task
        found = associate(store, labels=str(labels), groups=tuple(groups), client=InlineRunner(), **options)
        ds = cagdask.open_dataset(store)
        table = pd.read_csv(labels, sep="\t", index_col=0, dtype=str)
        table = table[table.Var.isin(groups) & table.index.isin(ds.sample_id.values)]
        values = ds.abundance.to_pandas().loc[list(found.gene), table.index].to_numpy(np.float64)
        return found, values, table, (table.Var == groups[1]).to_numpy()

    return asked


@pytest.mark.parametrize("name", list(COHORTS))
def test_rank_sums_of_real_cohorts_are_those_of_scipy(name: str, ask: Ask) -> None:
    found, values, _, second = ask(name)
    assert len(found) > 1000
    for row, (effect, p_value) in enumerate(zip(found.effect, found.p_value, strict=True)):
        one = values[row]
        expected = ss.mannwhitneyu(one[second], one[~second], method="asymptotic")
        assert effect == pytest.approx(2 * expected.statistic / (second.sum() * (~second).sum()) - 1, abs=1e-9)
        if one.max() > one.min():
            assert p_value == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-300)
        else:
            assert np.isnan(p_value)
    known = found.p_value.notna()
    np.testing.assert_allclose(found.q_value[known], ss.false_discovery_control(found.p_value[known]), rtol=1e-9)


@pytest.mark.parametrize("name", list(COHORTS))
def test_kruskal_of_real_cohorts_is_that_of_scipy(name: str, ask: Ask) -> None:
    found, values, _, second = ask(name, test="kruskal", min_prevalence=0.05)
    assert len(found) > 50
    for row, (effect, p_value) in enumerate(zip(found.effect, found.p_value, strict=True)):
        expected = ss.kruskal(values[row, second], values[row, ~second])
        assert effect == pytest.approx(expected.statistic / (len(second) - 1), abs=1e-9)
        assert p_value == pytest.approx(expected.pvalue, rel=1e-9)


@pytest.mark.parametrize("name", list(COHORTS))
def test_linear_models_of_real_cohorts_are_those_of_statsmodels(name: str, ask: Ask) -> None:
    found, values, _, second = ask(name, test="linear", min_prevalence=0.05)
    assert len(found) > 50
    for row in range(len(found)):
        fit = sm.OLS(values[row], np.column_stack([np.ones(len(second)), second])).fit()
        assert found.effect[row] == pytest.approx(fit.params[1], rel=1e-9, abs=1e-12)
        assert found.p_value[row] == pytest.approx(fit.pvalues[1], rel=1e-9, abs=1e-12)
        low, high = fit.conf_int()[1]
        np.testing.assert_allclose([found.ci_low[row], found.ci_high[row]], [low, high], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", list(COHORTS))
def test_logistic_models_of_real_cohorts_are_those_of_statsmodels(name: str, ask: Ask) -> None:
    found, values, _, second = ask(name, test="logistic", min_prevalence=0.4)
    known = np.flatnonzero(found.p_value.notna())
    assert len(known) >= 5
    for row in known[:100]:
        unit = values[row].std()  # the same model in other units: Newton's steps end at the precision that is asked for
        design = np.column_stack([values[row] / unit, np.ones(len(second))])
        fit = sm.Logit(second.astype(float), design).fit(disp=0, maxiter=200, tol=1e-12)
        assert found.effect[row] == pytest.approx(fit.params[0] / unit, rel=1e-9)
        assert found.p_value[row] == pytest.approx(fit.pvalues[0], rel=1e-9)


def test_pairs_of_a_real_cohort_are_those_of_scipy(ask: Ask) -> None:
    """Tumor and healthy tissue of the same person."""
    found, values, table, second = ask("kostic", test="paired", pairs="ControlVar")
    assert len(found) > 1000
    column = pd.Series(np.arange(len(table)), index=pd.MultiIndex.from_arrays([table.ControlVar, second]))
    both = column.unstack().dropna().to_numpy(int)
    assert len(both) == 86
    difference = values[:, both[:, 1]] - values[:, both[:, 0]]
    for row, one in enumerate(difference):
        if not one.any():
            assert np.isnan(found.p_value[row])
            continue
        rank = ss.rankdata(np.abs(one[one != 0]))
        expected = (rank * np.sign(one[one != 0])).sum() / rank.sum()
        assert found.effect[row] == pytest.approx(expected, abs=1e-9)
        assert found.p_value[row] == pytest.approx(ss.wilcoxon(one, method="asymptotic").pvalue, rel=1e-9)
