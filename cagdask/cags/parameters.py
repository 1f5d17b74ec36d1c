"""What determines a clustering, apart from the data."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
        """These parameters with defaults filled in.

        Raises
        ------
        ValueError
            One is not known or out of range; names it, its value and what is allowed.
        """
        for name, choices in (
            ("metric", METRICS),
            ("linkage", LINKAGES),
            ("refine", REFINEMENTS),
            ("search", SEARCHES),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}.")
        methods.check_options(self.normalization, self.clr_floor)  # type: ignore[arg-type]  # it checks the type
        for name in ("max_dist", "refine_dist"):
            value = getattr(self, name)
            if value is None and name == "refine_dist":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise ValueError(f"{name} is {value!r}; it must be at least 0 and below 1.")
        for name, least in (("min_samples", 1), ("probes", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {least}.")
        refine_dist = min(self.max_dist, DEFAULT_REFINE_DIST) if self.refine_dist is None else self.refine_dist
        return replace(self, max_dist=float(self.max_dist), refine_dist=float(refine_dist))
