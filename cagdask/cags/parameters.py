"""What determines a clustering, apart from the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cagdask.cags.options import CLUSTER
from cagdask.normalization import methods

DEFAULT_REFINE_DIST = 0.2
SEED_DIST = 0.2
"""Distance up to which ``max_dist="auto"`` links genes before groups are joined: safe at any depth (correlation)."""
USUAL = {"normalization": "sum", "metric": "cosine", "refine": "aggregate"}
AUTOMATIC = {"normalization": "clr", "metric": "correlation", "refine": "noise-corrected"}
"""Defaults of ``max_dist="auto"``, chosen on simulated cohorts; see the page on finding the right groups."""


@dataclass(frozen=True)
class Parameters:
    """What determines a result, apart from the data. See :func:`cagdask.find_cags` for the meaning."""

    normalization: str | None = None
    clr_floor: float | str | None = None
    max_dist: float | str = 0.2
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
    for name, value in (AUTOMATIC if automatic else USUAL).items():
        if taken[name] is None:
            taken[name] = value
    if automatic:
        if taken["refine"] != "noise-corrected":
            raise ValueError(
                f"`refine` is {taken['refine']!r}, but `max_dist='auto'` joins by noise-corrected similarity. Leave "
                "`refine` out, or give a number as `max_dist`."
            )
        taken["max_dist"] = SEED_DIST
        if taken["normalization"] == "clr" and taken["clr_floor"] is None:
            taken["clr_floor"] = "auto"
    if taken["strata"] is not None and taken["refine"] != "noise-corrected":
        raise ValueError(
            f"`strata` is {taken['strata']!r}, but genes are shuffled only with `max_dist='auto'` or "
            "`refine='noise-corrected'`. Leave `strata` out, or choose one of these."
        )
    if taken["unsupported"] != "guess" and taken["refine"] != "noise-corrected":
        raise ValueError(
            f"`unsupported` is {taken['unsupported']!r}, but support is judged only with `max_dist='auto'` or "
            "`refine='noise-corrected'`. Leave `unsupported` out, or choose one of these."
        )
    if taken["refine"] == "noise-corrected":
        for name, needed in (("linkage", "average"), ("search", "exact")):
            if taken[name] != needed:
                raise ValueError(
                    f"`{name}` is {taken[name]!r}, but `max_dist='auto'` and `refine='noise-corrected'` need {needed}. "
                    f"Leave `{name}` out, or choose another `refine`."
                )
