"""The stages of a two-pass clustering, in a work folder that becomes the folder of results.

    first pass    read the drawn, block by block --> cluster (one task) --> leaders.zarr
    second pass   label every block --> write labels --> write table, count --> twopass.json, pictures

A run that was interrupted goes on with the first task whose answer is not kept.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask import provenance, storage, stores
from cagdask.compute.runner import Runner
from cagdask.compute.work import Work
from cagdask.errors import InputError
from cagdask.twopass import labels, pictures, sources
from cagdask.twopass import sample as first_pass
from cagdask.twopass.sample import Recipe
from cagdask.twopass.sources import Items

if TYPE_CHECKING:
    import xarray as xr

LARGEST_BLOCK = 200_000
"""Items of a block, at most."""


@dataclass
class TwoPass(Work):
    """One folder of results in the making.

    Attributes
    ----------
    items
        What is clustered; of samples, once they are turned round.
    target
        The folder to make.
    rows
        Items of a block.
    """

    items: Items
    target: str
    rows: int

    @classmethod
    def begun(
        cls,
        items: Items,
        target: str,
        asked: dict[str, Any],
        block: int | None,
        runner: Runner,
        n_leaders: int,
        *,
        overwrite: bool,
    ) -> TwoPass:
        """Plan the second pass, start or resume the work folder, and turn samples round."""
        rows = _block_rows(items, block, runner, n_leaders)
        sizes = [storage.size_of(url) for url in items.urls] if items.kind in ("rows", "frames") else []
        made = {} if sizes else dict(storage.open_group(items.urls[0]).attrs)
        recipe = asked | {"items": items.to_json(), "bytes": sizes, "input_digest": made.get("input_digest", "")}
        folder, plan = storage.begin_work(target, recipe | {"plan": {"rows": rows}}, overwrite=overwrite)
        job = cls(folder, runner, items, target, int(plan["rows"]))
        if items.kind == "rows":
            job._attempt("check names", sources.check_rows, items.to_json())
        job.items = sources.turned_round(items, runner, job.path("samples"), job.done)
        return job

    @property
    def leaders(self) -> str:
        """The leaders that this job makes."""
        return storage.join(self.staged, stores.LEADERS)

    def _attempt(self, stage: str, function: Any, *item: Any) -> Any:
        """Run one task; input that it refuses leaves nothing behind."""
        try:
            return self.runner.one(stage, function, *item, done=self.done)
        except InputError:
            storage.end_work(self.target)
            raise

    def fit(self, rows: Any, recipe: Recipe, attrs: dict[str, Any]) -> dict[str, Any]:
        """The first pass, which writes the leaders."""
        blocks = np.split(rows, np.flatnonzero(np.diff(rows // self.rows)) + 1)
        parts = [self.path("drawn", str(i)) for i in range(len(blocks))]
        items = self.items.to_json()
        work = [(items, int(block[0]), block.tolist(), part) for block, part in zip(blocks, parts, strict=True)]
        bad = self.runner.map("read the sample", first_pass.read_drawn, work, done=self.done)
        if any(bad):
            self._refuse_values()
        first_pass.DrawnFiles(item=rows).write(self.path("drawn"))
        asked = (items, parts, self.path("drawn"), asdict(recipe), attrs, self.leaders)
        found: dict[str, Any] = self._attempt("first pass", first_pass.cluster_sample, *asked)
        return found

    def label(self, leaders: str, metric: str, max_dist: float | None, order: Any, *, drawn: bool) -> dict[str, Any]:
        """The second pass, which writes the labels and counts them."""
        place = None
        if order is not None:
            place = self.path("order")
            labels.OrderFiles(place=order).write(place)
        ranges = _ranges(self.items.n_items, self.rows)
        parts = [self.path("labels", str(i)) for i in range(len(ranges))]
        items = self.items.to_json()
        found = self.runner.map(
            "second pass",
            labels.label_block,
            [(items, b, e, leaders, metric, max_dist, place, part) for (b, e), part in zip(ranges, parts, strict=True)],
            done=self.done,
            unit=self.items.kind,
            weights=[e - b for b, e in ranges],
        )
        if any(answer["n_bad"] for answer in found):
            self._refuse(found)
        url = storage.join(self.staged, stores.LABELS)
        labels.create_labels(url, self.items.n_items, {"metric": metric, "max_dist": max_dist, "of": self.items.kind})
        chunks = _ranges(self.items.n_items, labels.ITEM_CHUNK)
        held = list(zip(parts, ranges, strict=True))
        work = [(items, [(part, b) for part, (b, e) in held if b < end and e > begin], begin, end, url)
                for begin, end in chunks]  # fmt: skip
        self.runner.map("write labels", labels.write_labels, work, weights=[e - b for b, e in chunks])
        self.runner.one("write table", labels.write_table, url, storage.join(self.staged, "labels.parquet"))
        counted: dict[str, Any] = self.runner.one("count labels", labels.summarize, url, leaders, drawn)
        return counted

    def _refuse_values(self) -> None:
        """Count what is no number in the whole source, and raise."""
        ranges = _ranges(self.items.n_items, self.rows)
        items = self.items.to_json()
        self._refuse(self.runner.map("count values", labels.count_bad, [(items, b, e) for b, e in ranges]))

    def _refuse(self, found: list[dict[str, Any]]) -> None:
        storage.end_work(self.target)
        first = next(answer for answer in found if answer["n_bad"])
        name = sources.read_names(self.items, first["row"], first["row"] + 1)[0]
        feature = sources.features(self.items)[first["feature"]]
        n_bad = sum(answer["n_bad"] for answer in found)
        raise InputError(
            f"{self.items.name}: {n_bad:,} values are missing, infinite or too large; the first "
            f"is {feature!r} of {name!r}. Correct them, or leave these items out."
        )

    def finish(self, found: dict[str, Any], *, in_memory: bool) -> xr.Dataset:
        """Write report and pictures, and publish the folder."""
        leaders = found.pop("leaders", self.leaders)
        report: dict[str, Any] = {"items": self.items.kind, "source": list(self.items.urls)} | found
        report["files"] = [stores.LABELS, "labels.parquet"]
        if storage.exists(self.leaders):
            report["files"].append(stores.LEADERS)
        if not in_memory:
            report["files"] += pictures.draw_all(report, leaders, self.staged)
        report["files"].append("twopass.json")
        report["versions"] = provenance.versions()
        report["stages"] = [asdict(used) for used in self.runner.usage[self.n_before :]]
        storage.write_json(storage.join(self.staged, "twopass.json"), report)
        storage.publish(self.staged, self.target)
        storage.end_work(self.target)
        opened = storage.load_dataset if in_memory else storage.open_dataset
        ds = opened(storage.join(self.target, stores.LABELS))
        if stores.LEADERS in report["files"]:
            ds = ds.assign(opened(storage.join(self.target, stores.LEADERS)).variables)
        ds.attrs["report"] = json.dumps(report, sort_keys=True)
        return ds


def _block_rows(items: Items, block: int | None, runner: Runner, n_leaders: int) -> int:
    """Items of a block, whole chunks where these fit; refused where not even one item does."""

    def need(rows: int) -> int:
        return labels.block_bytes(rows, items.n_features, min(items.chunk, items.n_items), n_leaders)

    fixed, per_row = need(0), need(1) - need(0)
    fitting = max(1, (runner.task_budget - fixed) // per_row)
    shared = -(-items.n_items // (4 * runner.n_threads))
    rows = min(fitting, LARGEST_BLOCK, max(shared, min(1000, items.n_items)))
    if rows > items.chunk:
        rows = rows // items.chunk * items.chunk
    rows = min(items.n_items, block or rows)
    what = f"{rows:,} {items.kind} x {items.n_features:,} values and {n_leaders:,} leaders"
    runner.check_fits("second pass", need(rows), what)
    return rows


def _ranges(n: int, step: int) -> list[tuple[int, int]]:
    return [(begin, min(begin + step, n)) for begin in range(0, n, step)]
