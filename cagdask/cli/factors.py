"""Commands that factorize: ``nmf``, and below it ``select``, ``consensus`` and ``project``."""

from __future__ import annotations

import shlex
from typing import Any

import click

from cagdask.cli.next_steps import then
from cagdask.cli.options import Outcome, Setting, computes, declared
from cagdask.cli.task_help import TaskCommand
from cagdask.factors.options import CONSENSUS, NMF, PROJECT, SELECT


class _WithDefault(click.Group):
    """A group whose first word may be left out: ``nmf STORE`` is ``nmf fit STORE``."""

    default = "fit"
    command_class = TaskCommand

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options of the default command, then the other commands."""
        self.commands[self.default].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class _Range(click.ParamType[list[int]]):
    """Numbers such as 5:30, 5:30:5 or 4,8,12."""

    name = "from:to[:step]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        try:
            if ":" in value:
                begin, end, *step = (int(part) for part in value.split(":"))
                found = list(range(begin, end + 1, *step))
            else:
                found = [int(part) for part in value.split(",")]
        except (TypeError, ValueError):
            found = []
        if not found or min(found) < 2:
            self.fail(f"{value!r} is no range of numbers of 2 or more; write 5:30, 5:30:5 or 4,8,12.", param, ctx)
        return found


_output = click.option("--output", required=True, metavar="URL", help="Folder to make: a path, or an s3:// URL.")


def _summary(output: str) -> dict[str, Any]:
    from cagdask import storage

    content: dict[str, Any] = storage.read_json(storage.join(output, "nmf.json"))
    return content | {"output": output}


def _after(output: str) -> str:
    """Where the files are, and what to do with them."""
    where = shlex.quote(output)
    return (
        f"\nFiles in {output}: nmf_latent.parquet (samples), NMF_weight_matrix_gsea.parquet (loadings), top_genes.tsv, "
        "factors.zarr, nmf.json, pictures\n\n"
        + then(
            (f"cagdask plot loadings {where} -o loadings.svg", "the strongest genes of each component"),
            (
                f"cagdask test {where} --labels COLUMN-or-FILE --output by-label.tsv",
                "which factors differ between labels",
            ),
        )
    )


def _text(content: dict[str, Any]) -> str:
    r2 = content["r2"]
    shape = f"{content['n_genes']:,} {content['rows_are']} x {content['n_samples']:,} samples"
    lines = [
        f"{content['output']}: {shape}, k = {content['k']}",
        f"R2 {'-' if r2 is None else f'{r2:.4f}'}, {content['passes']:g} passes over the data"
        + ("" if content.get("converged", True) else ", NOT converged"),
    ]
    empty = content.get("empty_components", [])
    if empty:
        lines.append(f"empty components: {', '.join(empty)}; a smaller k describes as much")
    for name in ("zero_genes", "zero_samples", "dropped_genes", "dropped_samples"):
        found = content.get(name, {"n": 0, "first": []})
        if found["n"]:
            more = ", …" if found["n"] > 3 else ""
            lines.append(f"{name.replace('_', ' ')}: {found['n']:,} ({', '.join(found['first'][:3])}{more})")
    return "\n".join(lines)


@click.group(name="nmf", cls=_WithDefault)
def nmf() -> None:
    """Find latent factors by non-negative matrix factorization.

    `cagdask nmf STORE -k 50 --output URL` factorizes (it is short for `cagdask nmf fit`); the other commands choose k,
    find what many replicates agree on, and fit programs to new samples. Options of the first:
    """


@nmf.command()
@click.argument("source", metavar="STORE")
@declared(NMF["k"])
@_output
@declared(*(option for option in NMF.values() if option.name != "k"))
@computes
def fit(setting: Setting, source: str, output: str, **options: Any) -> Outcome:
    """Factorize a store, the CAGs of a result store, or a Parquet table.

    Writes latent values of samples, loadings of genes, nmf.json and pictures to the folder OUTPUT.
    """
    from cagdask.factors.factorization import nmf as library_nmf

    library_nmf(source, output=output, overwrite=setting.overwrite, **setting.where, **options)
    content = _summary(output)
    return content, f"{_text(content)}\n{_after(output)}"


@nmf.command()
@click.argument("source", metavar="STORE")
@click.option("-K", "ks", type=_Range(), required=True, help="Numbers of components: 5:30, 5:30:5 or 4,8,12.")
@_output
@declared(SELECT)
@computes
def select(setting: Setting, source: str, output: str, **options: Any) -> Outcome:
    """Measure how stable each number of components is."""
    from cagdask.cli.tables import table
    from cagdask.factors.selection import nmf_select

    nmf_select(source, output=output, overwrite=setting.overwrite, **setting.where, **options)
    content = _summary(output)
    rows = [
        [str(row["k"]), f"{row['stability']:.3f}", f"{row['error']:.4f}", f"{row['r2']:.4f}"] for row in content["rows"]
    ]
    given = f" --nonneg {options['nonneg']}" if options.get("nonneg") else ""
    command = f"cagdask nmf {shlex.quote(source)} -k {content['recommended_k']}{given} --output factors"
    text = table(["k", "stability", "error", "R2"], rows) + (
        f"\n\nrecommended: k = {content['recommended_k']}: {content['recommended_because']}"
        f"\n\nFiles in {output}: k_selection.tsv, k_selection.png, nmf.json\n\n"
        f"{then((command, 'the factors of that number'))}"
    )
    return content, text


@nmf.command()
@click.argument("source", metavar="STORE")
@declared(CONSENSUS["k"])
@_output
@declared(*(option for option in CONSENSUS.values() if option.name != "k"))
@computes
def consensus(setting: Setting, source: str, output: str, **options: Any) -> Outcome:
    """Factorize from many random beginnings, and keep the programs that come back."""
    from cagdask.factors.consensus import nmf_consensus

    nmf_consensus(source, output=output, overwrite=setting.overwrite, **setting.where, **options)
    content = _summary(output)
    found = content["replicates"]
    kept = f"{found['n_kept']:,} of {found['n_programs']:,} programs kept, stability {found['stability']:.3f}"
    return content, f"{_text(content)}\n{kept}\n{_after(output)}"


@nmf.command()
@click.argument("source", metavar="NEW")
@click.option("--to", "reference", required=True, metavar="RESULT", help="Output of an earlier `cagdask nmf`.")
@_output
@declared(PROJECT)
@computes
def project(setting: Setting, source: str, reference: str, output: str, **options: Any) -> Outcome:
    """Fit the programs of RESULT to the samples of NEW."""
    from cagdask.factors.projection import nmf_project

    nmf_project(source, reference=reference, output=output, overwrite=setting.overwrite, **setting.where, **options)
    content = _summary(output)
    share = f"{content['n_matched']:,} of the reference's {content['n_reference']:,} genes found"
    return content, f"{_text(content)}\n{share}\n{_after(output)}"
