"""Tests of labelled samples, against SciPy and statsmodels feature by feature on the whole table."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats as ss
import statsmodels.api as sm
import statsmodels.formula.api as smf
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests

import cagdask
from cagdask import storage
from cagdask.errors import InputError
from cagdask.labels import statistics
from cagdask.labels.association import associate
from tests.conftest import MakeStore
from tests.inline_runner import InlineRunner
from tests.result_store import write_result_store

N_GENES, N_SAMPLES = 25, 30


def cohort(seed: int = 0) -> tuple[Any, pd.DataFrame]:
    """Abundances with ties and zeros, five genes higher in cases, and what is known of the samples."""
    rng = np.random.default_rng(seed)
    case = np.arange(N_SAMPLES) % 2 == 1
    values = rng.poisson(3, (N_GENES, N_SAMPLES)).astype(np.float32)
    values[:5, case] += rng.poisson(3, (5, case.sum()))
    names = [f"sample_{j:03d}" for j in range(N_SAMPLES)]
    known = {"state": np.where(case, "case", "healthy"), "age": rng.normal(50, 9, N_SAMPLES).round(1)}
    known |= {"pair": [f"p{j // 2}" for j in range(N_SAMPLES)], "center": [f"c{j % 3}" for j in range(N_SAMPLES)]}
    return values, pd.DataFrame(known, index=pd.Index(names, name="sample"))


@pytest.fixture
def asked(abundance_store: MakeStore, tmp_path: Path) -> Any:
    """Ask with ``healthy`` as the reference; gives the answer in the order of genes."""
    values, table = cohort()
    source, labels = abundance_store(values, chunk_rows=4, kind="expression"), tmp_path / "labels.tsv"
    table.to_csv(labels, sep="\t")

    def ask(**options: Any) -> pd.DataFrame:
        given = {"labels": str(labels), "groups": ("healthy", "case"), "client": InlineRunner()} | options
        return associate(source, **given).sort_values("gene", ignore_index=True)

    return ask


def split() -> tuple[Any, Any]:
    values, table = cohort()
    case = (table.state == "case").to_numpy()
    return values[:, case].astype(float), values[:, ~case].astype(float)


def same(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-9, atol=1e-12)


def test_rank_sums_are_those_of_scipy(asked: Any) -> None:
    found = asked()
    cases, healthy = split()
    expected = [ss.mannwhitneyu(a, b, method="asymptotic") for a, b in zip(cases, healthy, strict=True)]
    same(found.p_value, [one.pvalue for one in expected])
    above = [np.sign(a[:, None] - b).mean() for a, b in zip(cases, healthy, strict=True)]
    same(found.effect, above)
    same(found.q_value, multipletests(found.p_value, method="fdr_bh")[1])
    assert set(found.nsmallest(3, "p_value").gene) <= {f"gene_{i:06d}" for i in range(5)}
    assert (found.effect[:5] > 0).all()
    assert ((found.ci_low <= found.effect) & (found.effect <= found.ci_high)).all()


def test_signed_ranks_are_those_of_scipy(asked: Any) -> None:
    found = asked(test="paired", pairs="pair")
    cases, healthy = split()
    same(
        found.p_value,
        [ss.wilcoxon(a - b, method="asymptotic").pvalue for a, b in zip(cases, healthy, strict=True)],
    )
    for row, (a, b) in enumerate(zip(cases, healthy, strict=True)):
        d = (a - b)[a != b]
        rank = ss.rankdata(abs(d))
        same(found.effect[row], (rank[d > 0].sum() - rank[d < 0].sum()) / rank.sum())


def test_kruskal_is_that_of_scipy(asked: Any) -> None:
    values, table = cohort()
    found = asked(test="kruskal", label_column="center", groups=None)
    expected = [ss.kruskal(*(row[table.center == c] for c in ("c0", "c1", "c2"))) for row in values.astype(float)]
    same(found.p_value, [one.pvalue for one in expected])
    same(found.effect, [one.statistic / (N_SAMPLES - 1) for one in expected])


def test_linear_models_are_those_of_statsmodels(asked: Any) -> None:
    values, table = cohort()
    found = asked(test="linear", formula="age + C(center)")
    for row, one in enumerate(values.astype(float)):
        data = table.assign(y=one, case=(table.state == "case").astype(float))
        fit = smf.ols("y ~ age + C(center) + case", data).fit()
        same(found.loc[row, ["effect", "p_value"]].astype(float), [fit.params["case"], fit.pvalues["case"]])
        same(found.loc[row, ["ci_low", "ci_high"]].astype(float), fit.conf_int().loc["case"])


def test_logistic_models_are_those_of_statsmodels(asked: Any) -> None:
    values, table = cohort()
    found = asked(test="logistic", formula="age")
    y = (table.state == "case").astype(float).to_numpy()
    for row, one in enumerate(values.astype(float)):
        columns = np.column_stack([one, np.ones(N_SAMPLES), table.age])
        same(found.effect[row], sm.GLM(y, columns, family=sm.families.Binomial()).fit(tol=1e-15, maxiter=200).params[0])
        fit = sm.Logit(y, columns).fit(disp=0, tol=1e-13, maxiter=200)
        same(found.effect[row], fit.params[0])
        same(found.p_value[row], fit.pvalues[0])
        same([found.ci_low[row], found.ci_high[row]], fit.conf_int()[0])


def test_logistic_models_do_not_depend_on_units() -> None:
    rng = np.random.default_rng(0)
    values, second = rng.normal(size=(5, 40)), np.arange(40) % 2 == 1
    one = statistics.logistic(values, second, np.ones((40, 1)))
    other = statistics.logistic(values * 1e-9, second, np.ones((40, 1)))
    same(other.effect * 1e-9, one.effect)
    same(other.p_value, one.p_value)


def test_a_zero_aware_test_combines_presence_and_amount(asked: Any) -> None:
    found = asked(zero_aware=True)
    cases, healthy = split()
    for row, (a, b) in enumerate(zip(cases, healthy, strict=True)):
        table = [[(a > 0).sum(), (a == 0).sum()], [(b > 0).sum(), (b == 0).sum()]]
        some = [] if (table[0][1], table[1][1]) == (0, 0) else [ss.fisher_exact(table).pvalue]
        same(found.presence_p[row], some[0] if some else np.nan)
        same(found.presence_effect[row], (a > 0).mean() - (b > 0).mean())
        amount = ss.mannwhitneyu(a[a > 0], b[b > 0], method="asymptotic").pvalue
        same(found.abundance_p[row], amount)
        same(found.abundance_effect[row], np.sign(a[a > 0][:, None] - b[b > 0]).mean())
        same(found.p_value[row], ss.combine_pvalues([*some, amount], method="fisher").pvalue)
    plain = asked()
    same(found.effect, plain.effect)


def test_zero_aware_parts_that_say_nothing_are_left_out() -> None:
    second = np.arange(40) % 2 == 1
    rng = np.random.default_rng(0)
    values = rng.lognormal(size=(4, 40))
    values[1, 6:] = 0  # three of each group have it: just enough
    values[2, 4:] = 0  # two: too few for the amount
    values[3] = 0
    found, parts = statistics.two_part(values, second)
    assert np.isnan(parts.presence_p).tolist() == [True, False, False, True]
    assert np.isnan(parts.abundance_p).tolist() == [False, False, True, True]
    same(found.p_value[0], parts.abundance_p[0])
    same(found.p_value[2], parts.presence_p[2])
    assert np.isnan(found.p_value[3])


def test_factors_are_tested_as_genes_are(tmp_path: Path, abundance_store: MakeStore) -> None:
    values, table = cohort()
    cagdask.nmf(abundance_store(values), k=3, output=str(tmp_path / "nmf"), client=InlineRunner())
    table.to_csv(tmp_path / "l.tsv", sep="\t")
    given = {"labels": str(tmp_path / "l.tsv"), "label_column": "state", "client": InlineRunner()}
    found = associate(str(tmp_path / "nmf"), **given)
    latent = pd.read_parquet(tmp_path / "nmf" / "nmf_latent.parquet")
    case = (table.state == "case").to_numpy()
    assert sorted(found.factor) == ["NMF_0", "NMF_1", "NMF_2"]
    for row in found.to_dict("records"):
        one = latent[row["factor"]].to_numpy()
        same(row["p_value"], ss.mannwhitneyu(one[~case], one[case], method="asymptotic").pvalue)
    with pytest.raises(ValueError, match="needs values of which 0 means absent"):
        associate(str(tmp_path / "nmf"), zero_aware=True, **given)


def test_cohorts_are_combined_as_random_effects_as_in_statsmodels() -> None:
    rng = np.random.default_rng(1)
    effects, errors = rng.normal(0, 3, (4, 20)), rng.uniform(0.2, 0.5, (4, 20))
    found = statistics.random_effects(effects, errors)
    for i in range(20):
        expected = combine_effects(effects[:, i], errors[:, i] ** 2, method_re="chi2")
        same(found.effect[i], expected.mean_effect_re)
        same(found.error[i], expected.sd_eff_w_re)
    effects[2, 0] = np.nan
    known = [0, 1, 3]
    again = statistics.random_effects(effects[:, :1], errors[:, :1])
    same(again.effect, statistics.random_effects(effects[known, :1], errors[known, :1]).effect)


def test_each_cohort_is_tested_by_itself(asked: Any) -> None:
    values, table = cohort()
    found = asked(cohort="center")
    parts = [
        statistics.rank_sum(values[:, (table.center == c).to_numpy()].astype(float),
                            (table.state[table.center == c] == "case").to_numpy())
        for c in ("c0", "c1", "c2")
    ]  # fmt: skip
    expected = statistics.random_effects(np.stack([p.effect for p in parts]), np.stack([p.error for p in parts]))
    same(found.effect, expected.effect)


def test_without_an_effect_few_are_found_and_with_one_most() -> None:
    rng = np.random.default_rng(3)
    second = np.arange(40) % 2 == 1
    shares, power = [], []
    for _ in range(200):
        values = rng.lognormal(0, 1, (100, 40))
        values[:10, second] *= 5
        found = ss.false_discovery_control(statistics.rank_sum(values, second).p_value) <= 0.05
        shares.append(found[10:].sum() / max(1, found.sum()))
        power.append(found[:10].mean())
    assert np.mean(shares) <= 0.05
    assert np.mean(power) > 0.9


def test_metadata_of_the_store_gives_labels(abundance_store: MakeStore) -> None:
    values, table = cohort()
    source = abundance_store(values)
    group = storage.open_group(source, writable=True)
    storage.write_array(group, "sample_state", table.state.to_numpy(object), dims=("sample",), dtype="str")
    storage.finish_group(group)
    found = associate(source, labels="state", client=InlineRunner(), min_prevalence=0.9)
    assert found.prevalence.min() >= 0.9
    assert len(found) < N_GENES
    assert found.p_value.is_monotonic_increasing
    with pytest.raises(InputError, match=r"stat: is neither a file nor a column .*it has state"):
        associate(source, labels="stat", client=InlineRunner())


def test_a_constant_feature_has_no_p_value(abundance_store: MakeStore, tmp_path: Path) -> None:
    values, table = cohort()
    values[3] = 2
    table.to_csv(tmp_path / "l.tsv", sep="\t")
    source = abundance_store(values, kind="expression")
    for test in ("rank-sum", "kruskal", "linear", "logistic"):
        found = associate(source, labels=str(tmp_path / "l.tsv"), test=test, client=InlineRunner())
        assert found.gene.iloc[-1] == "gene_000003", test
        assert np.isnan(found.p_value.iloc[-1]), test
        assert found.p_value.iloc[:-1].notna().all(), test


def test_a_table_and_a_picture_are_written(asked: Any, tmp_path: Path) -> None:
    found = asked(output=str(tmp_path / "out.tsv"))
    written = pd.read_csv(tmp_path / "out.tsv", sep="\t").sort_values("gene", ignore_index=True)
    pd.testing.assert_frame_equal(written, found)
    assert (tmp_path / "out.volcano.png").read_bytes()[:4] == b"\x89PNG"
    assert not (tmp_path / "out.tsv.work").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label_column": "nothing"}, r"has no column 'nothing'"),
        ({"groups": ("case", "sick")}, r"no sample has the label 'sick'"),
        ({"groups": ("case",)}, r"all samples have the label case"),
        ({"groups": None, "label_column": "center"}, r"rank-sum compares two groups, and .* labels"),
        ({"test": "linear", "formula": "C(state)"}, r"the label follows from the covariates"),
        ({"test": "linear", "formula": "weight"}, r"formula 'weight'"),
        ({"cohort": "pair"}, r"group 'healthy' has 1 samples in a cohort"),
        ({"formula": "age"}, r"`formula` is for linear"),
        ({"test": "paired"}, r"needs a column of `pairs`"),
        ({"zero_aware": True, "test": "kruskal"}, r"`zero_aware` is for rank-sum"),
        ({"zero_aware": True, "cohort": "center"}, r"`zero_aware` is for rank-sum without cohorts"),
    ],
)
def test_what_can_not_be_tested_is_refused(asked: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        asked(**options)


def test_samples_without_label_and_labels_without_sample_are_said(
    abundance_store: MakeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values, table = cohort()
    table = table.rename({"sample_004": "elsewhere"})
    table.to_csv(tmp_path / "l.csv")
    with caplog.at_level(logging.WARNING):
        associate(abundance_store(values), labels=str(tmp_path / "l.csv"), client=InlineRunner())
    assert "1 samples are not in the store: elsewhere" in caplog.text
    assert "1 of 30 samples have no label: sample_004" in caplog.text
    assert "values are as ingested" in caplog.text


@pytest.mark.parametrize("whole", [1, 100])
def test_samples_that_do_not_add_up_as_others_do_are_named(
    abundance_store: MakeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, whole: float
) -> None:
    values, table = cohort()
    table.to_csv(tmp_path / "l.csv")
    shares = np.abs(values) / np.abs(values).sum(axis=0) * whole
    with caplog.at_level(logging.WARNING):
        associate(abundance_store(shares), labels=str(tmp_path / "l.csv"), client=InlineRunner())
    assert "add up to" not in caplog.text
    assert "as ingested" not in caplog.text
    shares[:, 7] *= 0.4
    with caplog.at_level(logging.WARNING):
        associate(abundance_store(shares), labels=str(tmp_path / "l.csv"), client=InlineRunner())
    said = rf"most samples add up to {whole}, but 1 of 30 do not: sample_007 \({0.4 * whole:.3g}\)"
    assert re.search(said, caplog.text)


def test_presence_of_log_ratios_is_that_of_the_result(tmp_path: Path) -> None:
    """A clr value is negative for most of what is present: its sign says nothing."""
    result = write_result_store(
        str(tmp_path / "cags.zarr"), [0, 0, 0, 1, 1, 2], n_samples=8, parameters={"normalization": "clr"}
    )
    group = storage.open_group(result, writable=True)
    array: Any = group["cag_abundance"]
    array[...] = -1 - np.arange(24, dtype=np.float32).reshape(3, 8)
    prevalence: Any = group["cag_prevalence"]
    prevalence[...] = np.array([1, 0.5, 0.25], np.float32)
    pd.DataFrame({"state": list("aabbabab")}, index=[f"sample{i}" for i in range(8)]).to_csv(
        tmp_path / "l.tsv", sep="\t", index_label="sample"
    )
    found = associate(result, labels=str(tmp_path / "l.tsv"), min_prevalence=0.5, client=InlineRunner())
    assert sorted(found.cag) == [0, 1]
    assert found.set_index("cag").prevalence.to_dict() == {0: 1, 1: 0.5}


def test_a_size_of_cags_is_refused_for_genes_before_any_work(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cagdask.labels.association._run", lambda *_: pytest.fail("it began"))
    with pytest.raises(ValueError, match="`min_size` is for CAGs, and these are genes"):
        asked(min_size=2)
