"""Commands that look at what is there: ``info``, ``plan``, ``report``."""

from __future__ import annotations

import shlex
from typing import Any

import click

from cagdask.cli.next_steps import then
from cagdask.cli.options import Outcome, Setting, Size, declared, reads, writes
from cagdask.cli.tables import cag_table, counts, table
from cagdask.cli.task_help import TaskCommand
from cagdask.runs.options import PLAN


@click.command(cls=TaskCommand)
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
        command = f"cagdask report {shlex.quote(content['url'])}"
        lines += ["", then((command, "a page about it"))]
    return "\n".join(lines)


@click.command(cls=TaskCommand)
@click.argument("source", metavar="INPUT")
@declared(PLAN["n_workers"])
@click.option("--memory-limit", type=Size(), default="4GiB", show_default=True, help="Memory of each of them.")
@declared(*(option for option in PLAN.values() if option.name != "n_workers"))
@reads
def plan(setting: Setting, source: str, memory_limit: str, **options: Any) -> Outcome:
    """Say what a run would need: memory, disk, tasks and time, without running it.

    INPUT is what `cagdask run` takes.
    """
    from cagdask.runs.planning import plan as library_plan

    made = library_plan(source, memory_limit=memory_limit, **options)
    command = f"cagdask run {shlex.quote(source)} --output my-cags"
    return made.to_json(), f"{made.to_text()}\n\n{then((command, 'do it'))}"


@click.command(cls=TaskCommand)
@click.argument("result", metavar="RESULT")
@click.option("--output", metavar="FILE", help="File to write; default: report.html beside the result.")
@click.option(
    "--association",
    metavar="FILE",
    multiple=True,
    help="Table that cagdask test wrote for RESULT; may be repeated. Default: those .tsv beside the result store.",
)
@click.option("--compare", metavar="OTHER", help="Another result: show how both agree.")
@writes
def report(
    setting: Setting, result: str, output: str | None, association: tuple[str, ...], compare: str | None
) -> Outcome:
    """Write an HTML page about a result.

    RESULT is a cags.zarr, or the folder of a run that holds one. The page needs nothing from elsewhere.

    Example: cagdask report my-cags --association by-diagnosis.tsv --compare finer --overwrite
    """
    from cagdask.reports.page import report as library_report

    where = library_report(
        result, output=output, association=association or None, compare=compare, overwrite=setting.overwrite
    )
    return {"output": where}, f"{where}\nOpen it in a browser; it needs no network."


@click.command(cls=TaskCommand)
@click.argument("first", metavar="FIRST")
@click.argument("second", metavar="SECOND")
@click.option("-o", "--output", metavar="FILE", help="Table to write, a row per CAG of FIRST: .tsv or .parquet.")
@click.option("--picture", metavar="FILE", help="Picture to write: .svg, .png or .html.")
@writes
def compare(setting: Setting, first: str, second: str, output: str | None, picture: str | None) -> Outcome:
    """Show how two results agree, and what became of each CAG of the first one.

    FIRST and SECOND are each a cags.zarr or the folder of a run; genes are matched by their ids. The adjusted Rand
    index is 1 for equal groups and about 0 for unrelated ones.

    Example: cagdask compare my-cags finer --picture compared.svg
    """
    from cagdask import storage
    from cagdask.reports import comparison

    for url in filter(None, (output, picture)):
        storage.check_target(storage.absolute(url), overwrite=setting.overwrite)
    if output:
        comparison.check_table_name(output)
    found = comparison.compare(first, second)
    if output:
        comparison.write_table(found.table, output)
    if picture:
        from cagdask import plot

        plot.save(plot.comparison(first, second), picture, overwrite=True)
    written = {name: url for name, url in (("output", output), ("picture", picture)) if url}
    command = f"cagdask report {shlex.quote(first)} --compare {shlex.quote(second)} --overwrite"
    text = _comparison_text(found, list(written.values()))
    return found.summary | written, f"{text}\n\n{then((command, 'both on one page'))}"


def _comparison_text(found: Any, written: list[str]) -> str:
    held = found.summary
    rows = [[str(row[name]) for name in ("cag", "size", "fate", "n_parts", "largest_part", "n_shared")] for row in
            found.table.head(10).to_dict("records")]  # fmt: skip
    only = f"; {held['n_only_first']:,} are only in the first, {held['n_only_second']:,} only in the second"
    text = [
        f"{held['n_genes']:,} genes compared{only if held['n_only_first'] or held['n_only_second'] else ''}.",
        f"Adjusted Rand index: {held['adjusted_rand']:.4f}.",
        f"CAGs of the first: {held['n_same']:,} the same in the second, {held['n_joined']:,} joined with other genes, "
        f"{held['n_split']:,} split, {held['n_mixed']:,} split and mixed with other genes.",
    ]
    if rows:
        text += ["", table(["CAG", "genes", "fate", "parts", "largest part", "genes in it"], rows)]
    return "\n".join(text + (["", f"Written: {', '.join(written)}"] if written else []))
