"""Pictures of a result, as charts that a notebook shows, the report holds and a file keeps.

    numbers     what a picture shows, as small tables; any size of result in bounded memory
    partition   sizes, coverage, threshold curve, cohesion, prevalence
    expression  distributions of values before and after normalization
    roles       roles of genes, stability of CAGs
    samples     heat map and composition of samples
    compared    the groups of two results beside each other
    dendrogram  the merge tree within one CAG
    association effects and p values of a test
    factors     the strongest genes of the components of an nmf
    classification   label counts, F1, confusion matrix, ROC and calibration of a classifier
    style       colors, fonts, and writing a chart to a file

Charts are Vega-Lite, built with Altair: text stays text, one chart gives SVG, PNG and an interactive page, and a page
that works offline carries 0.9 MB of program (Bokeh: 1.3 MB, and text is pixels of a canvas).

>>> import cagdask
>>> chart = cagdask.plot.sizes("my-cags")  # doctest: +SKIP
>>> cagdask.plot.save(chart, "sizes.svg")  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cagdask.plot.association import volcano
from cagdask.plot.classification import synthetic
from cagdask.plot.compared import comparison
from cagdask.plot.dendrogram import dendrogram
from cagdask.plot.expression import density, signal
from cagdask.plot.factors import loadings
from cagdask.plot.partition import cohesion, coverage, error_rate, prevalence, sizes, threshold_curve
from cagdask.plot.roles import roles, stability
from cagdask.plot.samples import composition, heat_map
from cagdask.plot.style import save

PLOTS = {
    "sizes": sizes,
    "coverage": coverage,
    "threshold-curve": threshold_curve,
    "cohesion": cohesion,
    "prevalence": prevalence,
    "heat-map": heat_map,
    "composition": composition,
    "dendrogram": dendrogram,
    "error-rate": error_rate,
    "roles": roles,
    "stability": stability,
}
"""Every picture of a result by its name on the command line."""
STORE_PLOTS = {"density": density}
"""Every picture of a store of abundances or expression."""
OTHER_PLOTS: dict[str, Callable[..., Any]] = {
    "volcano": volcano,
    "loadings": loadings,
    "signal": signal,
    "synthetic": synthetic,
}
"""Pictures of the output of ``cagdask test``, ``cagdask nmf``, ``cagdask metrics`` and ``cagdask augment``."""

__all__ = [
    "OTHER_PLOTS",
    "PLOTS",
    "STORE_PLOTS",
    "cohesion",
    "comparison",
    "composition",
    "coverage",
    "dendrogram",
    "density",
    "error_rate",
    "heat_map",
    "loadings",
    "prevalence",
    "roles",
    "save",
    "signal",
    "sizes",
    "stability",
    "synthetic",
    "threshold_curve",
    "volcano",
]
