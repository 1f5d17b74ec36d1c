"""Commands that look at what is there: ``info``, ``plan``, ``report``."""

from __future__ import annotations

from typing import Any

import click

from cagdask.cli.options import COUNT, Outcome, Setting, Size, keys, max_dist, method, reads, writes
from cagdask.cli.tables import cag_table, counts, table


@click.command()
@click.argument("url", metavar="URL")
@click.option("--verify", is_flag=True, help="Read all of it, and compare with the digests of its manifest.")
@reads
def info(setting: Setting, url: str, verify: bool) -> Outcome:
    """Show what a store, a result, a table or a sample sheet holds.

    URL is a store, the folder of a run, or what `cagdask run` takes.
    """
    from cagdask import storage, stores
    from cagdask.reports import page

    if _is_file(url):
        return _input_info(url, verify)
    ds = storage.look(stores.result_url(url))
    if verify:
        wrong = storage.find_damage(ds.encoding["source"])
        if wrong:
            raise storage.damaged(ds.encoding["source"], wrong)
    content: dict[str, Any] = {
        "url": ds.encoding["source"],
        "kind": ds.attrs.get("kind"),
        "sizes": {str(name): size for name, size in ds.sizes.items()},
        "variables": {str(name): _variable(ds[name]) for name in ds.variables},
        "attributes": {str(name): _plain(value) for name, value in ds.attrs.items()},
    }
    if verify:
        content["verified"] = True
    if "gene_cag" in ds.variables:
        content["summary"] = page.summarize(content["url"])
    return content, _info_text(content)


def _is_file(url: str) -> bool:
    import os

    from cagdask import storage

    url = storage.absolute(url)
    return not storage.is_remote(url) and os.path.isfile(storage.local_path(url))


def _input_info(url: str, verify: bool) -> Outcome:
    """What is known of a table or sample sheet before it is ingested."""
    from cagdask.runs.input_shape import measure

    if verify:
        raise click.UsageError("--verify is for stores, which have a manifest; leave it out for a table or sheet.")
    shape = measure(url, keys=("results", "depth", "id"), orient="genes-by-samples")
    about = "about " if shape.estimated else ""
    text = f"{shape.source}: {shape.format}; {about}{shape.n_genes:,} genes x {shape.n_samples:,} samples"
    sizes = {"gene": shape.n_genes, "sample": shape.n_samples}
    return {"url": shape.source, "kind": shape.format, "sizes": sizes, "estimated": shape.estimated}, text


def _variable(array: Any) -> dict[str, Any]:
    found = {"dims": list(array.dims), "dtype": str(array.dtype), "chunks": array.encoding.get("chunks")}
    if array.encoding.get("shards"):
        found["shards"] = array.encoding["shards"]
    return found


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)


def _info_text(content: dict[str, Any]) -> str:
    sizes = ", ".join(f"{size:,} {name}" for name, size in content["sizes"].items())
    lines = [f"{content['url']}: {content['kind']}; {sizes}", ""]
    rows = [
        [name, ", ".join(found["dims"]), found["dtype"], " x ".join(f"{n:,}" for n in found["chunks"] or ())]
        for name, found in content["variables"].items()
    ]
    lines += [table(["variable", "dims", "type", "chunks"], rows), ""]
    lines += [f"{name}: {value}" for name, value in content["attributes"].items()]
    if content.get("verified"):
        lines += ["", "Every file is as its manifest says."]
    if "summary" in content:
        lines += ["", counts(content["summary"]), "", cag_table(content["summary"]["largest"])]
    return "\n".join(lines)


@click.command()
@click.argument("source", metavar="INPUT")
@click.option("--workers", type=COUNT, help="Worker processes; default: one per core that is allowed, 16 at most.")
@click.option("--memory-limit", type=Size(), default="4GiB", show_default=True, help="Memory of each of them.")
@method("--normalization")
@max_dist
@keys
@reads
def plan(setting: Setting, source: str, workers: int | None, memory_limit: str, **options: Any) -> Outcome:
    """Say what a run would need: memory, disk, tasks and time, without running it.

    INPUT is what `cagdask run` takes.
    """
    from cagdask.runs.planning import plan as library_plan

    made = library_plan(source, n_workers=workers, memory_limit=memory_limit, **options)
    return made.to_json(), made.to_text()


@click.command()
@click.argument("result", metavar="RESULT")
@click.option("--output", metavar="FILE", help="File to write; default: report.html beside the result.")
@writes
def report(setting: Setting, result: str, output: str | None) -> Outcome:
    """Write an HTML page about a result.

    RESULT is a cags.zarr, or the folder of a run that holds one. The page needs nothing from elsewhere.
    """
    from cagdask.reports.page import report as library_report

    where = library_report(result, output=output, overwrite=setting.overwrite)
    return {"output": where}, where
