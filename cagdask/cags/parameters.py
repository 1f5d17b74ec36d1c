"""What determines a clustering, apart from the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from cagdask.cags.options import CLUSTER
from cagdask.normalization import methods

DEFAULT_REFINE_DIST = 0.2


@dataclass(frozen=True)
class Parameters:
    """What determines a result, apart from the data. See :func:`cagdask.find_cags` for the meaning."""

    normalization: str = "sum"
    clr_floor: float | str | None = None
    max_dist: float = 0.2
    min_samples: int = 1
    metric: str = "cosine"
    linkage: str = "average"
    refine: str = "aggregate"
    refine_dist: float | None = None
    search: str = "exact"
    probes: int = 8
    seed: int = 0

    def checked(self) -> Parameters:
        """These parameters as plain Python numbers and words, with defaults filled in.

        Raises
        ------
        ValueError
            One is not known or out of range; names it, its value and what is allowed.
        """
        taken = CLUSTER.check(**asdict(self))
        methods.check_options(taken["normalization"], taken["clr_floor"])
        if taken["refine_dist"] is None:
            taken["refine_dist"] = min(taken["max_dist"], DEFAULT_REFINE_DIST)
        return Parameters(**taken)
