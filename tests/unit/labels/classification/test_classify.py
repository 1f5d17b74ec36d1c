"""Classification from a store to a model and back: splits, leaks, features, files, new samples."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

import cagdask
from cagdask.compute.in_process import InProcess
from cagdask.compute.runner import Runner
from cagdask.errors import InputError, MemoryLimitError, SchemaError
from tests.conftest import write_abundance_store
from tests.inline_runner import InlineRunner
from tests.result_store import write_result_store

N_GENES, N_SAMPLES = 60, 90


def cohort(seed: int = 0, *, batch: float = 0.0, signal: float = 2.0) -> tuple[Any, pd.DataFrame]:
    """Genes x samples of nine studies; three labels shift five genes each, and a study shifts all genes.

    With ``batch``, labels are uneven over studies: each is most samples of three studies.
    """
    rng = np.random.default_rng(seed)
    study = np.arange(N_SAMPLES) % 9
    often = np.array([0.8, 0.1, 0.1]) if batch else np.full(3, 1 / 3)
    label = np.array([rng.choice(3, p=np.roll(often, s % 3)) for s in study])
    values = rng.normal(size=(N_GENES, N_SAMPLES)) + batch * rng.normal(size=(N_GENES, 9))[:, study]
    for one in range(3):
        values[5 * one : 5 * one + 5, label == one] += signal
    names = [f"sample_{j:03d}" for j in range(N_SAMPLES)]
    table = pd.DataFrame({"tissue": np.array(["brain", "liver", "skin"])[label], "study": [f"GSE{s}" for s in study]},
                         index=pd.Index(names, name="sample"))  # fmt: skip
    return np.exp2(values).astype(np.float32), table


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classify")
    values, table = cohort()
    write_abundance_store(str(folder / "s.zarr"), values, chunk_rows=16, kind="expression")
    table.iloc[:80].to_csv(folder / "labels.tsv", sep="\t")
    options: dict[str, Any] = {"n_trees": 30, "groups": "study", "leave_study_out": True, "n_features": 20}
    cagdask.classify(
        str(folder / "s.zarr"), labels=str(folder / "labels.tsv"), output=str(folder / "m"), client=InlineRunner(),
        **options,
    )  # fmt: skip
    return folder


def test_the_card_and_the_tables_agree(made: Path) -> None:
    card = json.loads((made / "m" / "model.json").read_text())
    assert set(card["splits"]) == {"random", "grouped", "study"}
    assert card["main_split"] == "grouped"
    assert [one["label"] for one in card["labels"]] == ["brain", "liver", "skin"]
    held = pd.read_csv(made / "m" / "predictions.tsv", sep="\t")
    for split, own in held.groupby("split"):
        assert len(own) == 80
        assert own["sample"].is_unique
        assert (own["label"] == own["predicted"]).mean() == pytest.approx(card["splits"][split]["accuracy"])
        assert own["unknown"].mean() == pytest.approx(card["splits"][split]["unknown"])
        assert (own["call"] == "unknown").equals(own["unknown"])
        np.testing.assert_allclose(own.filter(like="p(").sum(axis=1), 1, atol=1e-6)
    assert card["splits"]["grouped"]["macro_f1"] > 0.8
    studies = pd.read_csv(made / "m" / "studies.tsv", sep="\t")
    assert studies.n_samples.sum() == 80
    used = pd.read_csv(made / "m" / "features.tsv", sep="\t")
    assert list(used.columns) == ["feature", "importance", "n_folds"]
    assert len(used) == 20
    assert {f"gene_{i:06d}" for i in range(15)} <= set(used.feature), "planted genes are chosen"
    assert set(used.feature[:10]) <= {f"gene_{i:06d}" for i in range(15)}, "and matter most"
    for name in ("label-counts", "label-f1", "confusion", "roc", "calibration"):
        assert (made / "m" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    counts = json.loads((made / "m" / "curves.json").read_text())["grouped"]["confusion"]["counts"]
    assert np.sum(counts) == 80


def test_numbers_are_those_of_scikit_learn_on_the_whole_matrix(made: Path) -> None:
    """Same folds, all features: the same scores, so the same areas."""
    card = cagdask.classify(str(made / "s.zarr"), labels=str(made / "labels.tsv"), output=str(made / "all"),
                            client=InlineRunner(), n_trees=30)  # fmt: skip
    values, table = cohort()
    held = pd.read_csv(made / "all" / "predictions.tsv", sep="\t")
    X, y = values.T[:80], table.tissue.to_numpy()[:80]
    scores = np.zeros((80, 3))
    for fold in range(5):
        test = (held.fold == fold).to_numpy()
        own = RandomForestClassifier(30, random_state=0).fit(X[~test], y[~test])
        scores[test] = own.predict_proba(X[test])
    expected = roc_auc_score(pd.get_dummies(y), scores, average=None)
    np.testing.assert_allclose([row["auc"] for row in card["splits"]["random"]["labels"]], expected, atol=1e-9)


def test_no_bit_depends_on_workers_or_chunks(made: Path, tmp_path: Path, runner: Runner) -> None:
    values, _ = cohort()
    write_abundance_store(str(tmp_path / "other.zarr"), values, chunk_rows=7, kind="expression")
    options: dict[str, Any] = {"labels": str(made / "labels.tsv"), "n_trees": 10, "groups": "study", "n_features": 20}
    runs = {"workers": ("s.zarr", made, runner), "threads": ("s.zarr", made, Runner(InProcess("1GiB", 3))),
            "chunks": ("other.zarr", tmp_path, InlineRunner())}  # fmt: skip
    for name, (store, folder, where) in runs.items():
        cagdask.classify(str(folder / store), output=str(tmp_path / name), client=where, **options)
    files = [path.relative_to(tmp_path / "workers") for path in (tmp_path / "workers").rglob("*") if path.is_file()]
    assert len(files) > 10
    for name in ("threads", "chunks"):
        for path in files:
            assert (tmp_path / "workers" / path).read_bytes() == (tmp_path / name / path).read_bytes(), (name, path)


def test_a_batch_effect_that_reads_as_skill_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values, table = cohort(3, batch=1.5, signal=0.0)
    write_abundance_store(str(tmp_path / "s.zarr"), values, kind="expression")
    table.to_csv(tmp_path / "l.tsv", sep="\t")
    with caplog.at_level(logging.WARNING):
        card = cagdask.classify(str(tmp_path / "s.zarr"), labels=str(tmp_path / "l.tsv"), output=str(tmp_path / "m"),
                                client=InlineRunner(), groups="study", n_trees=50)  # fmt: skip
    random, grouped = (card["splits"][split]["macro_f1"] for split in ("random", "grouped"))
    assert random > 0.6
    assert grouped < 0.45
    assert any("is a batch effect of the studies" in message for message in card["warnings"])
    assert "Expect the second of new studies" in caplog.text


def test_without_signal_chosen_features_do_not_leak(tmp_path: Path) -> None:
    """Features chosen from all samples would read far above chance here."""
    rng = np.random.default_rng(5)
    write_abundance_store(str(tmp_path / "s.zarr"), np.exp2(rng.normal(size=(3000, 60))), kind="expression")
    table = pd.DataFrame({"x": ["a", "b"] * 30}, index=[f"sample_{j:03d}" for j in range(60)])
    table.to_csv(tmp_path / "l.tsv", sep="\t", index_label="sample")
    card = cagdask.classify(str(tmp_path / "s.zarr"), labels=str(tmp_path / "l.tsv"), output=str(tmp_path / "m"),
                            client=InlineRunner(), n_trees=50, n_features=20)  # fmt: skip
    assert card["splits"]["random"]["macro_auc"] < 0.65


def test_new_samples_get_labels_by_names_of_features(made: Path, tmp_path: Path) -> None:
    values, table = cohort(seed=8)
    order = np.random.default_rng(0).permutation(N_GENES)
    write_abundance_store(
        str(tmp_path / "new.zarr"), values[order], [f"gene_{i:06d}" for i in order], kind="expression"
    )
    found = cagdask.predict(
        str(made / "m"), str(tmp_path / "new.zarr"), output=str(tmp_path / "p.tsv"), client=InlineRunner()
    )
    assert (found.predicted.to_numpy() == table.tissue).mean() > 0.85
    known = ~found.unknown
    assert (found.predicted.to_numpy() == table.tissue)[known.to_numpy()].mean() > 0.9
    likely = found.their_labels.str.split("|").map(lambda some: some[0])
    assert (likely.to_numpy() == table.tissue).mean() > 0.6
    written = pd.read_csv(tmp_path / "p.tsv", sep="\t")
    assert written.call.tolist() == found.call.tolist()
    unlabelled = pd.read_csv(made / "m" / "unlabelled.tsv", sep="\t")
    assert unlabelled["sample"].tolist() == [f"sample_{j:03d}" for j in range(80, 90)]
    write_abundance_store(str(tmp_path / "odd.zarr"), values, [f"x{i}" for i in range(N_GENES)], kind="expression")
    with pytest.raises(InputError, match=r"20 of the 20 features of .* are not there: gene_0"):
        cagdask.predict(str(made / "m"), str(tmp_path / "odd.zarr"), output=str(tmp_path / "q.tsv"), missing="zero")
    with pytest.raises(SchemaError, match="holds no model"):
        cagdask.predict(str(tmp_path), str(tmp_path / "new.zarr"), output=str(tmp_path / "q.tsv"))


def test_a_gene_that_new_samples_lack_is_refused_or_absent(made: Path, tmp_path: Path) -> None:
    values, _ = cohort(seed=8)
    write_abundance_store(str(tmp_path / "new.zarr"), values[1:], [f"gene_{i:06d}" for i in range(1, N_GENES)],
                          kind="expression")  # fmt: skip
    with pytest.raises(InputError, match=r"1 of the 20 features of .* are not there: gene_000000"):
        cagdask.predict(str(made / "m"), str(tmp_path / "new.zarr"), output=str(tmp_path / "p.tsv"))
    assert not (tmp_path / "p.tsv").exists()
    found = cagdask.predict(str(made / "m"), str(tmp_path / "new.zarr"), output=str(tmp_path / "p.tsv"), missing="zero")
    values[0] = 0
    write_abundance_store(str(tmp_path / "zero.zarr"), values, kind="expression")
    same = cagdask.predict(str(made / "m"), str(tmp_path / "zero.zarr"), output=str(tmp_path / "z.tsv"))
    pd.testing.assert_frame_equal(found, same)


def test_cags_of_another_result_are_not_the_model_s(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, groups in (("a", [0, 0, 1, 1, 2]), ("b", [0, 0, 0, 1, 2])):
        write_result_store(str(tmp_path / f"{name}.zarr"), groups, n_samples=24)
    table = pd.DataFrame({"x": rng.permutation(["u", "v"] * 12)}, index=[f"sample{i}" for i in range(24)])
    table.to_csv(tmp_path / "l.tsv", sep="\t", index_label="sample")
    card = cagdask.classify(str(tmp_path / "a.zarr"), labels=str(tmp_path / "l.tsv"), output=str(tmp_path / "m"),
                            client=InlineRunner(), model="logistic")  # fmt: skip
    assert card["features"]["kind"] == "cags"
    assert card["features"]["names"] == ["0", "1", "2"]
    cagdask.predict(str(tmp_path / "m"), str(tmp_path / "a.zarr"), output=str(tmp_path / "p.tsv"))
    with pytest.raises(InputError, match="its features are of CAGs"):
        cagdask.predict(str(tmp_path / "m"), str(tmp_path / "b.zarr"), output=str(tmp_path / "q.tsv"))


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (
            {"groups": "center"},
            InputError,
            "no column 'center' for studies; the samples have study, tissue|tissue, study",
        ),
        ({"min_label": 50}, InputError, r"nothing to tell apart, 0 labels .*brain: fewer than 50 samples"),
        ({"leave_study_out": True}, ValueError, "`leave_study_out` needs studies"),
        ({"model": "tree"}, ValueError, "`model` is 'tree'; choose one of random-forest, logistic, lightgbm"),
        ({"n_tree": 3}, TypeError, "unknown option n_tree"),
        ({"features": "cags"}, SchemaError, "holds no CAGs"),
        ({"client": InlineRunner(memory_limit=2**20)}, MemoryLimitError, r"80 samples x 60 features"),
    ],
)
def test_what_can_not_be_learned_is_refused(made: Path, tmp_path: Path, options: Any, error: Any, said: str) -> None:
    given = {"labels": str(made / "labels.tsv"), "output": str(tmp_path / "m"), "client": InlineRunner()} | options
    with pytest.raises(error, match=said):
        cagdask.classify(str(made / "s.zarr"), **given)
    assert not list(tmp_path.iterdir())


def test_samples_may_have_several_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    member = rng.uniform(size=(80, 3)) < 0.4
    values = rng.normal(size=(80, 30))
    for i in range(3):
        values[member[:, i], 4 * i : 4 * i + 4] += 2
    write_abundance_store(str(tmp_path / "s.zarr"), np.exp2(values.T), kind="expression")
    (tmp_path / "lists").mkdir()
    for i, name in enumerate(("adult", "brain", "tumor")):
        own = [f"sample_{j:03d}" for j in np.flatnonzero(member[:, i])]
        (tmp_path / "lists" / f"{name}.txt").write_text("\n".join(own))
    card = cagdask.classify(str(tmp_path / "s.zarr"), labels=str(tmp_path / "lists"), output=str(tmp_path / "m"),
                            client=InlineRunner(), model="logistic", features="signal", n_features=25)  # fmt: skip
    assert not card["single"]
    assert len(card["samples"]) == member.any(axis=1).sum()
    assert len(card["features"]["names"]) == 25
    numbers = {row["label"]: row for row in card["splits"]["random"]["labels"]}
    assert [numbers[name]["support"] for name in ("adult", "brain", "tumor")] == member.sum(axis=0).tolist()
    assert min(row["f1"] for row in numbers.values()) > 0.7
    held = pd.read_csv(tmp_path / "m" / "predictions.tsv", sep="\t", keep_default_na=False)
    assert set(held.label) >= {"adult;brain", "adult;tumor"}
    assert not (tmp_path / "m" / "confusion.png").exists()
    without = pd.read_csv(tmp_path / "m" / "unlabelled.tsv", sep="\t")
    assert len(without) == (~member.any(axis=1)).sum()


def test_factors_are_features(tmp_path: Path) -> None:
    values, table = cohort()
    write_abundance_store(str(tmp_path / "s.zarr"), values, kind="expression")
    table.to_csv(tmp_path / "l.tsv", sep="\t")
    cagdask.nmf(str(tmp_path / "s.zarr"), k=6, output=str(tmp_path / "nmf"), client=InlineRunner())
    card = cagdask.classify(str(tmp_path / "nmf"), labels=str(tmp_path / "l.tsv"), output=str(tmp_path / "m"),
                            client=InlineRunner(), n_trees=30)  # fmt: skip
    assert card["features"]["kind"] == "factors"
    assert card["features"]["names"] == [f"NMF_{i}" for i in range(6)]
    assert card["splits"]["random"]["macro_auc"] > 0.8
    found = cagdask.predict(str(tmp_path / "m"), str(tmp_path / "nmf"), output=str(tmp_path / "p.tsv"))
    assert (found.predicted.to_numpy() == table.tissue).mean() > 0.95
    later, known = cohort(seed=0)
    write_abundance_store(str(tmp_path / "new.zarr"), later[:, 30:] * 1.01, kind="expression")
    cagdask.nmf_project(str(tmp_path / "new.zarr"), reference=str(tmp_path / "nmf"), output=str(tmp_path / "new"),
                        client=InlineRunner())  # fmt: skip
    found = cagdask.predict(str(tmp_path / "m"), str(tmp_path / "new"), output=str(tmp_path / "q.tsv"))
    assert (found.predicted.to_numpy() == known.tissue[30:]).mean() > 0.8
    cagdask.nmf(str(tmp_path / "s.zarr"), k=6, seed=1, output=str(tmp_path / "other"), client=InlineRunner())
    with pytest.raises(InputError, match="its features are of factors"):
        cagdask.predict(str(tmp_path / "m"), str(tmp_path / "other"), output=str(tmp_path / "r.tsv"))


def test_augmented_training_helps_a_rare_label(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    label = np.repeat([0, 1, 2], [60, 60, 14])
    values = rng.normal(size=(134, 60))
    for one in range(3):
        values[label == one, 3 * one : 3 * one + 3] += 1.6
    write_abundance_store(str(tmp_path / "s.zarr"), np.exp2(values.T), kind="expression")
    table = pd.DataFrame({"x": np.array(["a", "b", "seldom"])[label]}, index=[f"sample_{j:03d}" for j in range(134)])
    table.to_csv(tmp_path / "l.tsv", sep="\t", index_label="sample")
    f1 = {}
    for method in ("none", "gaussian"):
        card = cagdask.classify(str(tmp_path / "s.zarr"), labels=str(tmp_path / "l.tsv"), output=str(tmp_path / method),
                                client=InlineRunner(), n_trees=25, augment=method)  # fmt: skip
        assert sum(row["support"] for row in card["splits"]["random"]["labels"]) == 134, "real samples alone are tested"
        f1[method] = card["splits"]["random"]["labels"][2]["f1"]
    assert f1["gaussian"] > f1["none"] + 0.15


def test_a_table_is_classified_tested_and_augmented_as_it_is(tmp_path: Path) -> None:
    values, table = cohort()
    names = pd.Index([f"gene_{i:06d}" for i in range(N_GENES)], name="gene")
    pd.DataFrame(values, index=names, columns=table.index).to_csv(tmp_path / "t.tsv", sep="\t")
    table.to_csv(tmp_path / "l.tsv", sep="\t")
    where: dict[str, Any] = {"labels": str(tmp_path / "l.tsv"), "client": InlineRunner()}
    card = cagdask.classify(str(tmp_path / "t.tsv"), output=str(tmp_path / "m"), model="logistic", **where)
    assert card["splits"]["random"]["macro_f1"] > 0.8
    found = cagdask.predict(str(tmp_path / "m"), str(tmp_path / "t.tsv"), output=str(tmp_path / "p.tsv"))
    assert (found.predicted.to_numpy() == table.tissue).mean() > 0.95
    report = cagdask.augment(str(tmp_path / "t.tsv"), output=str(tmp_path / "a"), rare_below=90, n_splits=2,
                             model="logistic", groups="study", **where)  # fmt: skip
    assert report["split_by"] == "study"
    tested = cagdask.associate(str(tmp_path / "t.tsv"), groups=("brain", "liver"), **where)
    assert set(tested.gene[:8]) <= {f"gene_{i:06d}" for i in range(10)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "l.tsv", "m", "p.tsv", "t.tsv"]
