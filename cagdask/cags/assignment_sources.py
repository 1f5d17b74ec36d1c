"""What an assignment starts from: a result, the store that it was made from, and the store of other genes."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cagdask import schema, storage, stores
from cagdask.cags.jobs import check_source
from cagdask.cags.parameters import Parameters
from cagdask.errors import SchemaError

logger = logging.getLogger(__name__)

WITHIN = 0.95
"""Share of the grouped genes of a result without a threshold that are within the distance up to which genes are put."""


@dataclass(frozen=True)
class Sources:
    """A result, the store it was made from, and the store of other genes, which may be the same."""

    result: str
    clustered: str
    store: str
    parameters: Parameters
    attrs: dict[str, Any]
    order: list[int] | None


def sources_of(store: str, to: str, clustered: str | None) -> Sources:
    """Refuse stores that do not belong together, from their metadata and sample names."""
    url, store = stores.result_url(to), stores.abundance_url(store)
    ds = storage.look(url)
    if ds.attrs.get("kind") != schema.RESULT_KIND:
        raise SchemaError(f"{url}: holds no CAGs. Cluster the data first: cagdask cluster STORE --output URL.")
    schema.validate(ds, "gene_cag", "gene_linkage_cag", "cag_size", "merge_child", "sample_id", where=url)
    missing = [name for name in schema.RESULT_ATTRIBUTES if name not in ds.attrs]
    if missing:
        raise SchemaError(f"{url}: lacks the attributes {', '.join(missing)}. Cluster again.")
    if "gene_assigned" in ds.variables:
        raise SchemaError(f"{url}: has assigned genes already. Name the result that clustering gave.")
    parameters = Parameters(**json.loads(ds.attrs["parameters"])).checked()
    remedy = f"{url} was made with {parameters.normalization}: name the abundances as ingested."
    check_source(store, replace(parameters, min_samples=1), remedy)
    digest = ds.attrs["input_digest"]
    if clustered is None:
        beside = storage.join(storage.parent_of(url), stores.ABUNDANCE)
        clustered = store if digest_of(store) == digest or not storage.exists(beside) else beside
    clustered = storage.absolute(clustered)
    if clustered != store:
        check_source(clustered, parameters)
    n_genes = storage.open_array(clustered, "gene_id").shape[0]
    held = digest_of(clustered)
    if (held and held != digest) or n_genes != ds.sizes["gene"]:
        raise SchemaError(
            f"{clustered}: is not the store that {url} was made from. Name that one with `clustered`, and the one with "
            "other genes as `store`."
        )
    names = [str(name) for name in ds["sample_id"].values]
    return Sources(url, clustered, store, parameters, dict(ds.attrs), _sample_order(store, url, names))


def usual_distance(sources: Sources) -> float:
    """The threshold of a result, or the distance within which most of its genes are, if it was made without one."""
    threshold = float(sources.parameters.max_dist)
    if sources.parameters.refine != "noise-corrected":
        return threshold
    cag, distance, size = (
        np.asarray(storage.open_array(sources.result, name)[:])
        for name in ("gene_cag", "gene_cag_distance", "cag_size")
    )
    grouped = (cag >= 0) & (size[np.maximum(cag, 0)] > 1)
    usual = float(np.quantile(distance[grouped], WITHIN)) if grouped.any() else threshold
    return min(max(threshold, round(usual, 3)), 0.999)


def digest_of(store: str) -> str:
    """Digest of what a store was made from; empty if it has none."""
    return str(storage.open_group(store).attrs.get("input_digest", ""))


def _sample_order(store: str, result: str, wanted: list[str]) -> list[int] | None:
    """Places of the result's samples in a store; None if they are the same."""
    found = [str(name) for name in np.asarray(storage.open_array(store, "sample_id")[:])]
    if found == wanted:
        return None
    place = {name: i for i, name in enumerate(found)}
    missing = [name for name in wanted if name not in place]
    if missing:
        raise SchemaError(
            f"{store}: lacks {len(missing):,} of the {len(wanted):,} samples of {result}, the first is {missing[0]!r}. "
            "Genes can be compared only where they were measured in the same samples."
        )
    if len(found) > len(wanted):
        logger.warning("%s: %d samples that %s does not have are not used", store, len(found) - len(wanted), result)
    return [place[name] for name in wanted]
