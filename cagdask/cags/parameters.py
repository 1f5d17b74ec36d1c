"""What determines a clustering, apart from the data."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

from cagdask.cags.options import CLUSTER
from cagdask.normalization import methods

logger = logging.getLogger(__name__)

DEFAULT_REFINE_DIST = 0.2
SEED_DIST = 0.2
"""Distance up to which ``max_dist="auto"`` links genes before groups are joined: safe at any depth (correlation)."""
USUAL_DIST = 0.2
"""Threshold where something was asked for that needs one, and none was given."""
USUAL = {"normalization": "sum", "metric": "cosine", "refine": "aggregate"}
AUTOMATIC = {"normalization": "clr", "metric": "correlation", "refine": "noise-corrected"}
"""Defaults of ``max_dist="auto"``, chosen on simulated cohorts; see the page on finding the right groups."""
NEEDED = {"linkage": "average", "search": "exact"}
"""What joining by similarity without noise rests on."""


@dataclass(frozen=True)
class Parameters:
    """What determines a result, apart from the data. See :func:`cagdask.find_cags` for the meaning."""

    normalization: str | None = None
    clr_floor: float | str | None = None
    max_dist: float | str = "auto"
    min_samples: int = 1
    metric: str | None = None
    linkage: str = "average"
    refine: str | None = None
    refine_dist: float | None = None
    search: str = "exact"
    probes: int = 8
    fdr: float = 0.01
    strata: str | None = None
    unsupported: str = "guess"
    seed: int = 0
    stability: int = 0

    def checked(self) -> Parameters:
        """These parameters as plain Python numbers and words, with defaults filled in.

        Raises
        ------
        ValueError
            One is not known or out of range; names it, its value and what is allowed.
        """
        taken = CLUSTER.check(**asdict(self))
        _fill_in(taken)
        methods.check_options(taken["normalization"], taken["clr_floor"])
        if taken["refine_dist"] is None:
            taken["refine_dist"] = min(taken["max_dist"], DEFAULT_REFINE_DIST)
        return Parameters(**taken)


def _fill_in(taken: dict[str, Any]) -> None:
    """Fill in what depends on whether a threshold was given; ``auto`` becomes the distance of the first step."""
    automatic = taken["max_dist"] == "auto"
    needy = _needs_a_threshold(taken) if automatic else ""
    if needy:
        automatic, taken["max_dist"] = False, USUAL_DIST
    for name, value in (AUTOMATIC if automatic else USUAL).items():
        if taken[name] is None:
            taken[name] = value
    if automatic:
        taken["max_dist"] = SEED_DIST
        if taken["normalization"] == "clr" and taken["clr_floor"] is None:
            taken["clr_floor"] = "auto"
    if taken["refine"] == "noise-corrected":
        for name, needed in NEEDED.items():
            if taken[name] != needed:
                raise ValueError(
                    f"`{name}` is {taken[name]!r}, but `refine='noise-corrected'` needs {needed}. Leave `{name}` out, "
                    "or choose another `refine`."
                )
    else:
        for name, usual in (("strata", None), ("unsupported", "guess")):
            if taken[name] != usual:
                raise ValueError(
                    f"`{name}` is {taken[name]!r}, but genes are shuffled, and their support is judged, only with "
                    f"`max_dist='auto'` or `refine='noise-corrected'`. Leave `{name}` out, or choose one of these."
                )
    if needy:
        logger.warning(
            "`%s` %s needs a threshold, and `max_dist` is auto: %g is taken, with %s and %s unless others were given. "
            "Give a number as `max_dist` to choose.",
            needy, taken[needy], USUAL_DIST, USUAL["normalization"], USUAL["metric"],
        )  # fmt: skip


def _needs_a_threshold(taken: dict[str, Any]) -> str:
    """What was asked for that only groups up to a threshold have; empty for nothing."""
    for name, allowed in {**NEEDED, "refine": "noise-corrected", "refine_dist": None}.items():
        if taken[name] not in (allowed, None):
            return name
    return ""


def choice_in_words(parameters: Parameters) -> str:
    """What was chosen without a threshold, and why; empty if groups were joined up to a threshold alone.

    Examples
    --------
    >>> print(choice_in_words(Parameters().checked()).partition(":")[2].partition(",")[0])
     genes were linked up to a correlation distance of 0.2 after clr
    """
    if parameters.refine != "noise-corrected":
        return ""
    linked = f"genes were linked up to a {parameters.metric} distance of {parameters.max_dist:g} after "
    linked += f"{parameters.normalization}, then groups were joined by their similarity without noise."
    if (parameters.normalization, parameters.metric) == (AUTOMATIC["normalization"], AUTOMATIC["metric"]):
        why = "Of the normalizations and metrics tried, clr and correlation agreed best with known genomes."
    else:
        why = "You chose how; the constants of the joining were found with clr and correlation."
    return f"No threshold was given: {linked} {why}"
