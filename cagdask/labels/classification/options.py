"""What can be asked of a classification: declared once, for the functions and the commands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypedDict

from cagdask.arguments import Option, Options

MODELS = ("random-forest", "logistic", "lightgbm")
FEATURES = ("genes", "cags", "factors", "signal")

LABELS = Options(
    Option("label_column", None, "Column of a table with the label (default: its second), or several of 0 and 1: A,B.",
           optional=True, metavar="NAME"),
    Option("separator", None, "What stands between several labels in a cell, such as ';'.", optional=True),
    Option("label_kind", "auto", "Whether a sample has one label (single) or several.",
           choices=("auto", "single", "several")),
    Option("min_label", 10, "Samples that a label must have; others are named, and not learned.", int, least=3),
)  # fmt: skip

MODEL = Options(
    Option("model", "random-forest", "What learns: a random forest, logistic regression or boosted trees, the last two "
           "with rare labels weighed up. LightGBM must be installed for its own.", choices=MODELS),
    Option("features", None, "What is learned from: genes, the CAGs of a result, factors of cagdask nmf, or genes by "
           "signal (95th percentile over mean). Default: what the source holds.", choices=FEATURES, optional=True),
    Option("n_features", 5000, "Features at most; the best of the training samples of each fold.", int, least=1),
    Option("n_trees", 300, "Trees of a forest, or rounds of boosting.", int, least=1),
    Option("strength", 1.0, "Inverse of the penalty of the logistic regression.", float, above=0),
    Option("augment", "none", "Add synthetic samples of rare labels to training samples: cagdask augment says whether "
           "that helps. gan needs PyTorch.", choices=("none", "smote", "gaussian", "gan")),
    Option("rare_below", 20, "A label with fewer training samples is rare.", int, least=2),
    Option("seed", 0, "Of all that is random.", int, least=0),
)  # fmt: skip

TESTING = Options(
    Option("groups", None, "Column with the study of a sample: whole studies are kept apart for testing.",
           optional=True, metavar="COLUMN"),
    Option("batch", None, "Column of batches: a label that follows from it is said.", optional=True, metavar="COLUMN"),
    Option("n_folds", 5, "Parts into which samples are divided; each is tested once.", int, least=2),
    Option("leave_study_out", False, "Also test each study by itself.", bool),
    Option("unknown_below", 0.5, "A sample whose best label is less probable than this is unknown.", float,
           least=0, most=1),
)  # fmt: skip

AUGMENT = Options(
    *(replace(one, default=5) if name == "min_label" else one for name, one in LABELS.items()),
    *(one for name, one in MODEL.items() if name != "augment"),
    TESTING["groups"],
    Option("n_splits", 12, "Times that samples are split anew.", int, least=2),
    Option("test_share", 0.33, "Share of the samples of each label that is kept apart.", float, above=0, below=1),
)  # fmt: skip

CLASSIFY = Options(*LABELS.values(), *MODEL.values(), *TESTING.values())


class ClassifyOptions(TypedDict, total=False):
    """Options of :func:`cagdask.classify`, as :data:`CLASSIFY` declares them."""

    label_column: str | None
    separator: str | None
    label_kind: str
    min_label: int
    model: str
    features: str | None
    n_features: int
    n_trees: int
    strength: float
    augment: str
    rare_below: int
    seed: int
    groups: str | None
    batch: str | None
    n_folds: int
    leave_study_out: bool
    unknown_below: float


class AugmentOptions(TypedDict, total=False):
    """Options of :func:`cagdask.augment`, as :data:`AUGMENT` declares them."""

    label_column: str | None
    separator: str | None
    label_kind: str
    min_label: int
    model: str
    features: str | None
    n_features: int
    n_trees: int
    strength: float
    rare_below: int
    seed: int
    groups: str | None
    n_splits: int
    test_share: float


def checked(options: dict[str, Any], declared: Options) -> dict[str, Any]:
    """All options, with defaults filled in.

    Raises
    ------
    TypeError, ValueError
        An option is unknown, or a value not allowed.
    """
    return declared.check(**declared.defaults | options)
