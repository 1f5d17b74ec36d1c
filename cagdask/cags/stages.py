"""The stages of a clustering, in order, as tasks of a runner.

One :class:`Clustering` is one result store in the making. Its methods are called once each, top to bottom. What they
hand on are folders in the work folder, never arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cagdask import schema, storage
from cagdask.cags import confidence, description, results, roles
from cagdask.cags.parameters import Parameters
from cagdask.cags.roles import GENE_CHUNK
from cagdask.compute.work import Work
from cagdask.engine.grid import on_grid
from cagdask.engine.linkage import average, refinement, single
from cagdask.engine.linkage.rounds import LinkagePlan, Linked
from cagdask.engine.plan.task_memory import EnginePlan
from cagdask.engine.rows import profiles
from cagdask.engine.rows.files import Block
from cagdask.engine.stage_names import (
    CUT,
    DESCRIBE_CAGS,
    FOLD,
    LABELS,
    MEASURE_GENES,
    MEMBERS,
    PROFILES,
    TREE,
    WRITE_CAGS,
    WRITE_GENES,
    WRITE_MERGES,
)
from cagdask.errors import InputError
from cagdask.normalization import methods
from cagdask.normalization.sample_statistics import SampleStatistics


def similarity_of(max_dist: float) -> float:
    """The similarity at which groups still join, on the grid on which similarities are compared."""
    return on_grid(1 - max_dist)


@dataclass(frozen=True)
class Groups:
    """Groups with their directions.

    Folders of blocks, the table that says which of their rows live (None: all), the tables of the rounds that joined
    any, and the account of the searches.
    """

    folders: list[str]
    table: str | None
    joined: list[str]
    linked: Linked


@dataclass
class Clustering(Work):
    """One result store in the making.

    Attributes
    ----------
    store
        Abundance store, absolute.
    n_genes, n_samples
        Shape of the store.
    """

    store: str
    n_genes: int
    n_samples: int
    parameters: Parameters
    plan: EnginePlan
    statistics: SampleStatistics | None = None
    judged: str | None = None
    labelled: str | None = None

    # -- folders and items ---------------------------------------------------------------------------------------------

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Rows of each block of the store."""
        return _ranges(self.n_genes, self.plan.block_rows)

    @property
    def profiles(self) -> list[str]:
        """Folders of the profiles of each block."""
        return self._folders("profiles")

    @property
    def linkage_plan(self) -> LinkagePlan:
        """Sizes for linkage."""
        probes = self.parameters.probes if self.parameters.search == "approximate" else None
        return replace(self.plan.linkage(), probes=probes)

    def _folders(self, name: str) -> list[str]:
        return [self.path(name, str(i)) for i in range(len(self.ranges))]

    @property
    def cag_rows(self) -> int:
        """CAGs per chunk of the result store."""
        return max(1, min(2**20 // self.n_samples, GENE_CHUNK))

    def recipe(self) -> dict[str, Any]:
        """How the store is normalized, for tasks."""
        chosen = self.parameters
        return {
            "normalization": chosen.normalization,
            "clr_floor": chosen.clr_floor,
            "metric": chosen.metric,
            "min_samples": chosen.min_samples,
            "statistics": self.path("statistics.npz"),
        }

    # -- stages --------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Per-sample statistics, unit profiles, and the fold of identical ones."""
        counts = self.profile(self.store)
        if sum(c["n_filtered"] for c in counts) == self.n_genes:
            storage.abandon_work(self.folder)  # what lies there helps no other run, and would be in its way
            raise InputError(
                f"{self.store}: no gene is left: none of {self.n_genes:,} is in {self.parameters.min_samples} or more "
                f"of {self.n_samples:,} samples. Use a smaller `min_samples`."
            )
        self.runner.one(FOLD, profiles.fold_identical, self.profiles, self.n_genes, self.path("fold"), done=self.done)

    def profile(self, measured: str) -> list[dict[str, int]]:
        """Unit profiles, normalized by the per-sample statistics of the store ``measured``; counts by block."""
        method = str(self.parameters.normalization)
        self.statistics = methods.sample_statistics(measured, self.runner, method, self.folder, done=self.done)
        storage.write_bytes(self.recipe()["statistics"], self.statistics.to_bytes())
        ranges = self.ranges
        return self.runner.map(
            PROFILES,
            profiles.write_profiles,
            [(self.store, b, e, self.recipe(), url) for (b, e), url in zip(ranges, self.profiles, strict=True)],
            done=self.done,
            unit="genes",
            weights=[e - b for b, e in ranges],
        )

    def link(self) -> tuple[str, list[Block], Linked]:
        """The merge tree, as a folder, and its groups at ``max_dist`` with their means."""
        fold = self.path("fold")
        folders = self._folders("profiles")
        counts = self.runner.map(MEMBERS, profiles.count_members, [(url, fold) for url in folders], done=self.done)
        blocks = [Block(url, n, fold) for url, n in zip(folders, counts, strict=True) if n]
        threshold = similarity_of(float(self.parameters.max_dist))
        where = self.path("linkage")
        if self.parameters.linkage == "single":
            linked = single.single_linkage(
                self.runner, blocks, self.n_genes, threshold, self.linkage_plan, where, self.done
            )
        elif self.parameters.linkage == "average":
            linked = average.average_linkage(self.runner, blocks, threshold, self.linkage_plan, where, self.done)
        else:  # a choice that no stage was written for must not pass for another rule
            raise NotImplementedError(f"linkage {self.parameters.linkage!r} has no stage.")
        tree = self.path("tree")
        self.runner.one(
            TREE,
            results.write_tree,
            linked.merges,
            self.path("fold"),
            self.n_genes,
            self.parameters.linkage,
            tree,
            done=self.done,
        )
        found = linked.finished if self.parameters.linkage == "average" else self.mean_profiles(tree)
        return tree, self.directions(found), linked

    def cut(self, result: str) -> str:
        """The merge tree of a result up to a smaller threshold, as a folder."""
        tree = self.path("tree")
        item = (result, self.n_genes, self.parameters.max_dist, tree)
        self.runner.one(CUT, results.cut_tree, *item, done=self.done)
        return tree

    def mean_profiles(self, tree: str) -> list[Block]:
        """Blocks of the groups of a tree with their mean profiles, summed over their genes."""
        here = self.path("means")
        made = self.runner.one("number groups", results.number_groups, tree, self.path("fold"), here, done=self.done)
        return self.means_of(here, made["n"])

    def means_of(self, here: str, n_groups: int, what: str = "groups") -> list[Block]:
        """Blocks of groups, as ``here`` labels the genes, with their mean profiles; ``what`` tells stages apart."""
        parts = [storage.join(here, "part", str(i)) for i in range(len(self.ranges))]
        items = [(url, here, part) for url, part in zip(self.profiles, parts, strict=True)]
        self.runner.map(f"sum profiles of {what}", results.sum_profiles, items, done=self.done)
        ranges = _ranges(n_groups, self.plan.cag_rows)
        blocks = [Block(storage.join(here, "block", str(b)), e - b) for b, e in ranges]
        self.runner.map(
            f"average profiles of {what}",
            results.mean_profiles,
            [(parts, here, b, e, self.n_samples, block.folder) for (b, e), block in zip(ranges, blocks, strict=True)],
            done=self.done,
        )
        return blocks

    def directions(self, found: list[Block], what: str = "groups", folder: str = "groups") -> list[Block]:
        """Groups with their mean profiles scaled to unit length, in larger blocks; ``what`` tells stages apart."""
        return refinement.directions_of(self.runner, found, self.plan.chunk_rows, self.path(folder), self.done, what)

    def refine(self, found: list[Block]) -> Groups:
        """Groups whose mean directions are close, joined."""
        if self.parameters.refine == "none" or not found:
            return Groups([block.folder for block in found], None, [], Linked())
        where = self.plan.linkage(), self.path("refine"), self.done
        if self.parameters.refine == "noise-corrected":
            from cagdask.engine.linkage.corrected_joining import join_corrected

            return Groups(*join_corrected(self.runner, found, *where))
        assert self.parameters.refine_dist is not None
        return Groups(*refinement.refine(self.runner, found, similarity_of(self.parameters.refine_dist), *where))

    def label(self, tree: str, found: Groups) -> dict[str, int]:
        """Number the CAGs."""
        item = (tree, self.path("fold"), found.joined, found.folders, found.table, self.path("labels"))
        answer: dict[str, int] = self.runner.one(LABELS, results.write_labels, *item, done=self.done)
        return answer

    def judge(self) -> dict[str, Any]:
        """The status of each gene, from the same engine on shuffled genes; what it rests on, as numbers."""
        from cagdask.cags import null

        step, judged = null.step_of(self.n_genes), self.path("judged")
        chance = replace(self, folder=self.path("null"))
        items = [
            (url, step, self.parameters.seed, to, self.store, self.parameters.strata)
            for url, to in zip(self.profiles, chance.profiles, strict=True)
        ]
        shuffled = self.runner.map("shuffle genes", null.shuffle_profiles, items, done=chance.done)
        self.runner.one(
            f"{FOLD}, shuffled", profiles.fold_identical, chance.profiles, self.n_genes, chance.path("fold"),
            done=chance.done,
        )  # fmt: skip
        by_chance = (chance.path("labels"), chance.path("tree"), self.parameters.max_dist) if any(shuffled) else None
        if by_chance:
            _, found, _ = chance.link()
            chance.label(by_chance[1], chance.refine(found))
        supports = self._folders("support")
        of_blocks = list(zip(self.profiles, supports, strict=True))
        self.runner.map("measure support", null.measure_support, of_blocks, done=self.done)
        item = (self.path("labels"), by_chance, supports, step, self.parameters.fdr, self.n_samples, judged)
        answer: dict[str, Any] = self.runner.one("estimate error rate", null.judge, *item, done=self.done)
        self.judged = judged
        return answer

    def leave_alone(self) -> tuple[Groups, int]:
        """Take genes with too little support out of their groups; what is left, and the number of CAGs."""
        from cagdask.cags import unsupported

        assert self.judged is not None
        labels, fold, here = self.path("labels"), self.path("fold"), self.path("stays")
        item = labels, self.judged, fold
        made = self.runner.one("leave genes alone", unsupported.number_members, *item, here, done=self.done)
        found = self.directions(self.means_of(here, made["n"], "what stays"), "what stays")
        folders, status = [block.folder for block in found], self.path("judged-alone")
        self.labelled = self.path("labels-alone")
        answer: dict[str, int] = self.runner.one(
            "label what stays", unsupported.write_labels, *item, folders, self.labelled, status, done=self.done
        )
        self.judged = status
        return Groups(folders, None, [], Linked()), answer["n_cags"]

    def measure(self, tree: str, found: Groups, counts: dict[str, int], attrs: dict[str, Any]) -> None:
        """Write the result store, complete but not yet in place."""
        labels = self.labelled or self.path("labels")
        self.measure_genes(labels, found.folders)
        self.write(tree, labels, found.folders, counts, attrs)

    def measure_genes(self, labels: str, folders: list[str]) -> None:
        """Measure the genes, and sum their abundances by CAG; ``folders`` hold the directions of the CAGs."""
        ranges = self.ranges
        self.runner.map(
            MEASURE_GENES,
            results.measure_genes,
            [
                (self.store, b, e, self.recipe(), profile, labels, folders, url)
                for (b, e), profile, url in zip(ranges, self.profiles, self._folders("measured"), strict=True)
            ],
            done=self.done,
            unit="genes",
            weights=[e - b for b, e in ranges],
        )

    def write(self, tree: str, labels: str, folders: list[str], counts: dict[str, int], attrs: dict[str, Any]) -> None:
        """Write the measures; the cohesion of the CAGs is taken from the lengths of the means in ``folders``."""
        ranges, measured = self.ranges, self._folders("measured")
        n_cags, n_merges, rows = counts["n_cags"], counts["n_merges"], self.cag_rows
        assert self.statistics is not None
        absent = self.statistics.absent(str(self.parameters.normalization))
        self._create(n_cags, n_merges, rows, attrs, absent)
        of_cags, of_genes = roles.ranges_of_cags(self, n_cags), _ranges(self.n_genes, GENE_CHUNK)
        self.runner.map(
            WRITE_CAGS,
            results.write_cags,
            [(self.staged, measured, labels, folders, b, e, self.n_samples, absent) for b, e in of_cags],
            unit="CAGs",
            weights=[e - b for b, e in of_cags],
        )
        self.runner.map(
            WRITE_GENES,
            results.write_genes,
            [(self.store, self.staged, labels, measured, ranges, b, e, self.judged) for b, e in of_genes],
            unit="genes",
            weights=[e - b for b, e in of_genes],
        )
        least = confidence.least_cohesion(self.parameters)
        item = (self.store, self.staged, labels, measured, self.judged, least)
        self.runner.one(DESCRIBE_CAGS, description.describe_cags, *item)
        self.runner.one(WRITE_MERGES, results.write_merges, self.staged, tree)
        roles.add_roles(self, labels, n_cags)
        storage.finish_group(storage.open_group(self.staged, writable=True))

    def _create(self, n_cags: int, n_merges: int, rows: int, attrs: dict[str, Any], absent: float) -> None:
        """The result store with arrays yet to fill."""
        group = storage.create_group(self.staged, attrs)
        source = storage.open_group(self.store)
        names = results.GENE_VARIABLES + (results.STATUS_VARIABLES if self.judged else ())
        for name in (name for name in names if name != "gene_length"):
            storage.create_array(group, name, (self.n_genes,), chunks=(GENE_CHUNK,))
        description.create_metadata(group, source, self.n_genes, GENE_CHUNK)
        description.create_words(group, source, n_cags, rows)
        for name, variable in schema.VARIABLES.items():
            if variable.dims == ("cag",) and name not in schema.ADDED_LATER:
                attrs = schema.attributes(name)
                if name == "cag_status":
                    attrs["meanings"] = confidence.meanings(self.parameters)
                storage.create_array(group, name, (n_cags,), chunks=(rows,), attrs=attrs)
        for name, more in (("cag_abundance", {"absent": absent}), ("cag_sum", {})):
            attrs, shape = schema.attributes(name) | more, (n_cags, self.n_samples)
            storage.create_array(group, name, shape, chunks=(rows, self.n_samples), attrs=attrs)
        storage.create_array(group, "merge_child", (n_merges, 2), chunks=(GENE_CHUNK, 2))
        storage.create_array(group, "merge_height", (n_merges,), chunks=(GENE_CHUNK,))
        for name in source.array_keys():
            if name.startswith("sample_"):
                values = storage.open_array(self.store, name)
                storage.write_array(group, name, np.asarray(values[:]), dims=("sample",), attrs=dict(values.attrs))


def _ranges(n: int, step: int) -> list[tuple[int, int]]:
    return [(begin, min(begin + step, n)) for begin in range(0, n, step)]
