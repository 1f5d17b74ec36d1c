"""Models as arrays score as the library that fitted them does; curves, planes, folds and numbers are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cagdask.labels.classification import balance, calibration, features, neighbors, scoring, splits
from cagdask.labels.classification.models import Fitted, Recipe, decide, fit, open_model


def samples(n_labels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sixty samples, each of one label, which shifts some features."""
    rng = np.random.default_rng(seed)
    label = np.arange(60) % n_labels
    values = rng.normal(size=(60, 12)) + 1.5 * np.eye(n_labels, 12)[label]
    return values.astype(np.float32), np.eye(n_labels, dtype=bool)[label]


def stored(model: Fitted, name: str, n_labels: int, folder: Path) -> Fitted:
    model.files.write(str(folder))
    return open_model(name, str(folder), n_labels)


@pytest.mark.parametrize("n_labels", [2, 4])
def test_a_stored_forest_scores_as_that_of_scikit_learn(n_labels: int, tmp_path: Path) -> None:
    values, member = samples(n_labels)
    new = samples(n_labels, 1)[0]
    made = stored(fit(Recipe(n_trees=25), values, member, True), "random-forest", n_labels, tmp_path)
    own = RandomForestClassifier(25, random_state=0).fit(values, member.argmax(axis=1))
    np.testing.assert_allclose(made.scores(new), own.predict_proba(new), atol=1e-7)
    np.testing.assert_allclose(made.importance, own.feature_importances_, atol=1e-12)


@pytest.mark.parametrize("n_labels", [2, 4])
def test_a_stored_regression_scores_as_that_of_scikit_learn(n_labels: int, tmp_path: Path) -> None:
    values, member = samples(n_labels)
    new = samples(n_labels, 1)[0]
    made = stored(fit(Recipe("logistic"), values, member, True), "logistic", n_labels, tmp_path)
    regression = LogisticRegression(class_weight="balanced", max_iter=5000)
    own = make_pipeline(StandardScaler(), regression).fit(values.astype(float), member.argmax(axis=1))
    np.testing.assert_allclose(made.scores(new), own.predict_proba(new.astype(float)), atol=1e-6)


@pytest.mark.parametrize("model", ["random-forest", "logistic", "lightgbm"])
def test_several_labels_are_learned_one_by_one(model: str, tmp_path: Path) -> None:
    if model == "lightgbm":
        pytest.importorskip("lightgbm")
    values, member = samples(3)
    member = member | np.roll(member, 1, axis=1)
    member[:, 2] = True  # constant in training
    made = stored(fit(Recipe(model, n_trees=20), values, member, False), model, 3, tmp_path)
    scores = made.scores(values)
    assert scores.shape == (60, 3)
    assert (decide(scores, False) == member).mean() > 0.9
    assert (scores[:, 2] > 0.99).all()


def test_boosted_trees_are_stored_as_text(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    values, member = samples(3)
    made = fit(Recipe("lightgbm", n_trees=10), values, member, True)
    again = stored(made, "lightgbm", 3, tmp_path)
    np.testing.assert_array_equal(again.scores(values), made.scores(values))
    np.testing.assert_allclose(again.scores(values).sum(axis=1), 1)


def test_a_label_without_training_samples_scores_nothing() -> None:
    values, member = samples(3)
    kept = ~member[:, 2]
    for model in ("random-forest", "logistic"):
        scores = fit(Recipe(model, n_trees=20), values[kept], member[kept], True).scores(values)
        np.testing.assert_allclose(scores[:, 2], 0, atol=1e-12)
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("n", [300, 4000])
def test_calibrated_probabilities_are_shares(n: int) -> None:
    """Scores that are too sure become probabilities: the mean of a bin is the share that has the label."""
    rng = np.random.default_rng(0)
    true = rng.uniform(0.1, 0.9, n)
    having = (rng.uniform(size=n) < true)[:, None]
    scores = np.clip((true - 0.5) * 3 + 0.5, 0, 1)[:, None]
    made = calibration.fit_calibration(scores, having).probabilities(scores, False)
    assert ((made[:, 0] - true) ** 2).mean() < 0.3 * ((scores[:, 0] - true) ** 2).mean()
    few = calibration.fit_calibration(scores[:4], np.array([[True], [False], [True], [False]]))
    np.testing.assert_allclose(few.probabilities(scores, False), scores)


def test_numbers_of_labels_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    member = np.eye(3, dtype=bool)[rng.integers(0, 3, 80)]
    scores = rng.dirichlet([1, 1, 1], 80).round(1) + 0.3 * member
    given = decide(scores, True)
    rows = scoring.score_labels(list("abc"), scores, given, member)
    expected = precision_recall_fscore_support(member, given, zero_division=0)
    for i, name in enumerate(("precision", "recall", "f1", "support")):
        np.testing.assert_allclose([row[name] for row in rows], expected[i])
    np.testing.assert_allclose([row["auc"] for row in rows], roc_auc_score(member, scores, average=None))
    assert scoring.score_labels(["a"], scores[:, :1], given[:, :1], np.ones((80, 1), bool))[0]["auc"] is None


def test_no_study_is_in_training_and_test() -> None:
    rng = np.random.default_rng(0)
    studies = np.array([f"study {i}" for i in rng.integers(0, 9, 90)], object)
    strata = np.arange(90) % 3
    fold = splits.grouped_folds(strata, studies, 4, 0)
    assert set(fold) == {0, 1, 2, 3}
    for study in set(studies):
        assert len(set(fold[studies == study])) == 1
    inner = splits.inner_folds(strata, studies, fold != 0, 3, 0)
    assert (inner[fold == 0] == -1).all()
    assert all(len(set(inner[studies == study])) == 1 for study in set(studies))
    dealt = splits.random_folds(strata, 5, 0)
    assert all(np.bincount(dealt[strata == s]).tolist() == [6] * 5 for s in range(3))


def test_every_label_gets_its_best_features() -> None:
    scores = np.array([[9, 8, 7, 6, 0, 0], [0, 0, 0, 0, 0.2, 0.1]], np.float32)
    assert features.best_of(scores, 2).tolist() == [0, 4]
    assert features.best_of(scores, 4).tolist() == [0, 1, 4, 5]
    values, member = samples(3)
    found = features.association_of(values.T, member)
    assert [int(row.argmax()) for row in found] == [0, 1, 2]
    assert features.association_of(np.ones((2, 60), np.float32), member).max() == 0
    signal = features.signal_of(np.stack([np.zeros(100), np.r_[np.zeros(90), np.full(10, 9)]]).astype(np.float32))
    np.testing.assert_allclose(signal, [[1, 10 / 1.9]])


@pytest.mark.parametrize("shape", [(40, 100), (100, 40)])
def test_the_nearest_samples_are_those_of_the_distance(shape: tuple[int, int]) -> None:
    """With all components, distances in the plane are those of the scaled features."""
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(shape[0], 5)) @ rng.normal(size=(5, shape[1]))).astype(np.float32)  # five components
    plane = neighbors.fit_plane(values)
    rows, distance = neighbors.nearest(plane, values[:3], 4)
    data = (values - values.mean(axis=0)) / values.std(axis=0)
    for i in range(3):
        expected = np.sqrt(((data - data[i]) ** 2).sum(axis=1))
        assert rows[i, 0] == i
        np.testing.assert_allclose(distance[i], np.sort(expected)[:4], rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("method", ["smote", "gaussian"])
def test_synthetic_samples_are_like_those_of_their_label(method: str) -> None:
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], [60, 50, 6])
    values = (rng.normal(size=(116, 40)) + 4 * np.eye(3, 40)[label]).astype(np.float32)
    member = np.eye(3, dtype=bool)[label]
    made = balance.augmented(values, member, method, 20, 0)
    every, labels = made.values, made.member
    np.testing.assert_array_equal(every[:116], values)
    assert labels.sum(axis=0).tolist() == [60, 50, 50], "the rare label has the median number"
    new = every[116:]
    assert labels[116:, 2].all()
    np.testing.assert_allclose(new.mean(axis=0), values[label == 2].mean(axis=0), atol=0.7)
    assert new[:, 2].mean() > 3 > abs(new[:, 0].mean())
    assert len(np.unique(new, axis=0)) == len(new), "no copies"
    again = balance.augmented(values, member, method, 20, 0).values
    np.testing.assert_array_equal(every, again)
    if method == "smote":  # between two samples of the label: never outside of their range
        own = values[label == 2]
        assert ((new >= own.min(axis=0) - 1e-5) & (new <= own.max(axis=0) + 1e-5)).all()
    same = balance.augmented(values[:110], member[:110], method, 20, 0).values
    assert len(same) == 110, "a label without samples stays without"
