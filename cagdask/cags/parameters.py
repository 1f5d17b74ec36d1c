"""What determines a clustering, apart from the data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cagdask import arguments
from cagdask.normalization import methods

METRICS = ("cosine", "correlation", "spearman")
LINKAGES = ("average", "single")
REFINEMENTS = ("aggregate", "none")
SEARCHES = ("exact", "approximate")
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
        arguments.choice("metric", self.metric, METRICS)
        arguments.choice("linkage", self.linkage, LINKAGES)
        arguments.choice("refine", self.refine, REFINEMENTS)
        arguments.choice("search", self.search, SEARCHES)
        floor = self.clr_floor
        if floor is not None and not isinstance(floor, str):
            floor = arguments.number("clr_floor", floor)
        methods.check_options(self.normalization, floor)  # type: ignore[arg-type]  # it checks the type
        max_dist = arguments.number("max_dist", self.max_dist, least=0, below=1)
        refine_dist = min(max_dist, DEFAULT_REFINE_DIST)
        if self.refine_dist is not None:
            refine_dist = arguments.number("refine_dist", self.refine_dist, least=0, below=1)
        return replace(
            self,
            clr_floor=floor,
            max_dist=max_dist,
            min_samples=arguments.whole("min_samples", self.min_samples, least=1),
            refine_dist=refine_dist,
            probes=arguments.whole("probes", self.probes, least=1),
            seed=arguments.whole("seed", self.seed, least=0),
        )
