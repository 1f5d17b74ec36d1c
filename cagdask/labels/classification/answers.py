"""What a model says of samples: labels, how probable they are, and which labelled samples are most similar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.labels.classification.calibration import Calibration, CalibrationFiles
from cagdask.labels.classification.models import decide, open_model
from cagdask.labels.classification.neighbors import PlaneFiles, nearest

if TYPE_CHECKING:
    import pandas as pd

Float64 = NDArray[np.float64]

MODEL, CALIBRATION, PLANE = "model", "calibration", "plane"
"""Folders of the arrays of a model."""
SEPARATOR = ";"
"""Between several labels of a sample."""
UNKNOWN = "unknown"
MANY_LABELS = 50
"""Labels up to which tables have a column for each."""
STEP = 2**12
"""Samples that are scored at once."""


def answers(scores: Float64, probabilities: Float64, names: list[str], single: bool, below: float) -> pd.DataFrame:
    """Labels given to samples: ``predicted``, the ``probability`` of the surest of them, ``unknown``, ``call``."""
    import pandas as pd

    given = decide(scores, single)
    sure = np.where(given, probabilities, -1.0).max(axis=1)
    unknown = sure < below
    sure = np.where(given.any(axis=1), sure, probabilities.max(axis=1))
    said = [SEPARATOR.join(name for name, one in zip(names, row, strict=True) if one) for row in given.tolist()]
    call = [UNKNOWN if u else text for u, text in zip(unknown.tolist(), said, strict=True)]
    return pd.DataFrame({"predicted": said, "probability": sure, "unknown": unknown, "call": call})


def per_label(names: list[str], probabilities: Float64) -> dict[str, Any]:
    """A column of probabilities for each label, if there are not too many."""
    if len(names) > MANY_LABELS:
        return {}
    return {f"p({name})": column for name, column in zip(names, probabilities.T, strict=True)}


def predicted(folder: str, card: dict[str, Any], samples: list[str], read: Any) -> pd.DataFrame:
    """Labels that a stored model gives to samples, some of them at a time.

    Parameters
    ----------
    folder, card
        The model.
    samples
        Their names.
    read
        A function that gives the values of samples ``begin`` to ``end``, shape (n, n_features).
    """
    import pandas as pd

    names, single = card["label_names"], card["single"]
    model = open_model(card["options"]["model"], storage.join(folder, MODEL), len(names))
    curve = Calibration(CalibrationFiles.open(storage.join(folder, CALIBRATION)))
    plane = PlaneFiles.open(storage.join(folder, PLANE))
    tables = []
    for begin in range(0, len(samples), STEP):
        end = min(begin + STEP, len(samples))
        values = read(begin, end)
        scores = model.scores(values)
        probabilities = curve.probabilities(scores, single)
        rows, distance = nearest(plane, values)
        calls = answers(scores, probabilities, names, single, card["options"]["unknown_below"])
        likes = [SEPARATOR.join(card["samples"][i] for i in row) for row in rows.tolist()]
        likes_labels = ["|".join(card["sample_labels"][i] for i in row) for row in rows.tolist()]
        calls = calls.assign(most_similar=likes, their_labels=likes_labels, distance=distance[:, 0])
        calls.insert(0, "sample", samples[begin:end])
        tables.append(calls.assign(**per_label(names, probabilities)))
    return pd.concat(tables, ignore_index=True)
