"""Random forests as plain arrays: grown by scikit-learn, kept and applied without it.

    node    0       1       2           a tree is a run of nodes; children by their place in the same tree
    feature 5      -1      -1           -1: a leaf
    left    1       0       1           of a leaf: its row in ``leaf``
    right   2

Nothing of a file is executed when a forest is read, and it does not depend on the version of any library. Leaves are
float32, so that scores differ from those of scikit-learn by 1e-7 at most.

References
----------
.. [1] Breiman (2001). Random forests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.storage.arrays import Files, array

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]


class ForestFiles(Files):
    """Trees of a forest, or of one forest per label."""

    begin: NDArray[np.int64] = array(np.int64, "tree + 1", "first node of a tree")
    output: NDArray[np.int64] = array(np.int64, "tree", "first label that the tree scores")
    feature: NDArray[np.int32] = array(np.int32, "node", "feature that is compared; -1 in a leaf")
    threshold: Float64 = array(np.float64, "node", "values up to this go left")
    left: NDArray[np.int32] = array(np.int32, "node", "node of the same tree; in a leaf, its row")
    right: NDArray[np.int32] = array(np.int32, "node", "node of the same tree; 0 in a leaf")
    leaf: Float32 = array(np.float32, "leaf, label", "share of each label among the training samples of a leaf")
    importance: Float64 = array(np.float64, "feature", "mean fall of impurity, sums to 1")


@dataclass(frozen=True)
class Forest:
    """A fitted forest.

    Attributes
    ----------
    files
        Its trees.
    n_labels
        Labels that it scores: all by each tree, or one by each where ``leaf`` has one column.
    """

    files: ForestFiles
    n_labels: int

    @property
    def importance(self) -> Float64:
        """Of each feature, sums to 1."""
        return self.files.importance

    def scores(self, values: Float32) -> Float64:
        """Score of each label, shape (n_samples, n_labels), in [0, 1]; mean over trees.

        Parameters
        ----------
        values
            Shape (n_samples, n_features), float32.
        """
        files, width = self.files, self.files.leaf.shape[1]
        values = np.ascontiguousarray(values, np.float32)
        total = np.zeros((len(values), self.n_labels))
        count = np.zeros(self.n_labels)
        for tree, output in enumerate(files.output.tolist()):
            begin, end = files.begin[tree : tree + 2].tolist()
            found = files.leaf[_leaves(files, begin, end, values)]
            total[:, output : output + width] += found
            count[output : output + width] += 1
        return np.asarray(total / count)


def _leaves(files: ForestFiles, begin: int, end: int, values: Float32) -> NDArray[np.int32]:
    """Row in ``leaf`` for each sample: all samples go down the tree together, a level at a time."""
    feature, threshold = files.feature[begin:end], files.threshold[begin:end]
    left, right = files.left[begin:end], files.right[begin:end]
    node = np.zeros(len(values), np.int32)
    active = np.flatnonzero(feature[node] >= 0)
    while len(active):
        at = node[active]
        goes_left = values[active, feature[at]] <= threshold[at]
        node[active] = np.where(goes_left, left[at], right[at])
        active = active[feature[node[active]] >= 0]
    return left[node]


def fit_forest(values: Float32, member: Bools, single: bool, n_trees: int, seed: int) -> Forest:
    """Grow a forest for labels that exclude each other, or one for each label.

    Parameters
    ----------
    values
        Shape (n_samples, n_features), float32.
    member
        Which sample has which label, shape (n_samples, n_labels); with ``single`` one in each row.
    single
        Whether labels exclude each other.
    n_trees
        Trees of each forest.
    seed
        Of samples and features that trees see.
    """
    n_labels = member.shape[1]
    targets = [(0, member.argmax(axis=1))] if single else [(i, member[:, i].astype(int)) for i in range(n_labels)]
    parts: dict[str, list[Any]] = {name: [] for name in ("feature", "threshold", "left", "right", "leaf", "output")}
    sizes, n_leaves, importance = [0], 0, np.zeros(values.shape[1])
    values = np.ascontiguousarray(values, np.float32)
    for output, target in targets:
        own = np.zeros(values.shape[1])
        for tree in _grown(values, target, n_trees, seed):
            columns = _columns(tree.classes_, single)
            n_leaves = _add(parts, tree.tree_, columns, n_labels if single else 1, n_leaves)
            own += tree.feature_importances_
            parts["output"].append(output)
            sizes.append(tree.tree_.node_count)
        importance += own / (own.sum() or 1) / len(targets)
    files = ForestFiles(
        begin=np.cumsum(sizes, dtype=np.int64),
        output=np.array(parts["output"], np.int64),
        feature=np.concatenate(parts["feature"]).astype(np.int32),
        threshold=np.concatenate(parts["threshold"]),
        left=np.concatenate(parts["left"]).astype(np.int32),
        right=np.concatenate(parts["right"]).astype(np.int32),
        leaf=np.concatenate(parts["leaf"]).astype(np.float32),
        importance=importance,
    )
    return Forest(files, n_labels)


def _grown(values: Float32, target: NDArray[np.int64], n_trees: int, seed: int) -> Iterator[Any]:
    """Trees as ``RandomForestClassifier`` grows them, one after the other.

    Not by that class itself: it changes Python's filter of warnings while it works, which belongs to the whole process,
    so that tasks in threads would disturb each other.
    """
    from sklearn.tree import DecisionTreeClassifier

    drawn = np.random.RandomState(seed)
    for _ in range(n_trees):
        own = int(drawn.randint(np.iinfo(np.int32).max))
        chosen = np.random.RandomState(own).randint(0, len(values), len(values), dtype=np.int32)
        weight = np.bincount(chosen, minlength=len(values)).astype(np.float64)
        tree = DecisionTreeClassifier(max_features="sqrt", random_state=own)
        yield tree.fit(values, target, sample_weight=weight, check_input=False)


def _columns(classes: Any, single: bool) -> list[int]:
    """Column in ``leaf`` of each class that scikit-learn knows; -1 for "without", which is not kept."""
    return [int(c) for c in classes] if single else [0 if c == 1 else -1 for c in classes]


def _add(parts: dict[str, list[Any]], tree: Any, columns: list[int], width: int, n_leaves: int) -> int:
    is_leaf = tree.children_left < 0
    row = np.cumsum(is_leaf) - 1 + n_leaves
    parts["feature"].append(np.where(is_leaf, -1, tree.feature))
    parts["threshold"].append(np.where(is_leaf, 0.0, tree.threshold))
    parts["left"].append(np.where(is_leaf, row, tree.children_left))
    parts["right"].append(np.where(is_leaf, 0, tree.children_right))
    share = tree.value[is_leaf, 0]
    share = share / share.sum(axis=1, keepdims=True)
    kept = [i for i, column in enumerate(columns) if column >= 0]
    leaf = np.zeros((len(share), width))
    leaf[:, [columns[i] for i in kept]] = share[:, kept]
    parts["leaf"].append(leaf)
    return n_leaves + len(share)
