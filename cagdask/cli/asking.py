"""What the commands that ask a store of vectors share: options, questions from files, answers as text and files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from cagdask.cli.options import Outcome, Setting, chain

if TYPE_CHECKING:
    from cagdask.vectors.answers import Answers

outputs = chain(
    click.option("--descriptions", metavar="FILE", help="Table of id, symbol, description; default: the store's own."),
    click.option(
        "--query-file", metavar="FILE", help="Many questions: one per line, its genes separated by blanks or tabs."
    ),
    click.option("--interactive", is_flag=True, help="Ask at a prompt, until quit."),
    click.option(
        "--output", metavar="FILE", multiple=True, help="Write .md, .tsv, .json or .parquet; may be repeated."
    ),
    click.option("--picture", metavar="FILE", help="Draw the answer as .png: a heat map; of all pairs, a histogram."),
    click.option(
        "--link",
        metavar="TEMPLATE",
        help="Web address of a gene in Markdown, with {gene} for its id, or none; default: Ensembl ids are linked to "
        "the Human Protein Atlas.",
    ),
)


def check_files(setting: Setting, output: Sequence[str], picture: str | None, link: str | None, many: bool) -> None:
    """Refuse, before any work, files that can not be written, or not for this many questions."""
    from cagdask import storage
    from cagdask.errors import InputError
    from cagdask.vectors.tables import check_output

    if link is not None and not any(url.endswith(".md") for url in output):
        raise click.UsageError("--link is for Markdown; add --output FILE.md, or leave it out.")
    for url in output:
        check_output(url, link, overwrite=setting.overwrite)
    if picture is None:
        return
    if many:
        raise click.UsageError("--picture shows the answer to one question; leave it out, or ask one.")
    if not picture.endswith(".png"):
        raise InputError(f"{picture}: pictures are .png. Rename it.")
    storage.check_target(storage.absolute(picture), overwrite=setting.overwrite)


def check_ways(setting: Setting, output: Sequence[str], picture: str | None, **given: Any) -> None:
    """Refuse none and more than one of the ways to ask, and files for answers at a prompt."""
    chosen = [name for name, value in given.items() if value]
    if len(chosen) != 1:
        ways = ", ".join(given)
        raise click.UsageError(f"Ask in one way of {ways}" + (f", not {' and '.join(chosen)}." if chosen else "."))
    if given["--interactive"] and (setting.as_json or output or picture):
        raise click.UsageError("--interactive prints tables; --json, --output and --picture are for questions given.")


def read_queries(url: str, most: int | None, what: str = "questions") -> list[list[str]]:
    """Questions of a file, a line each, genes separated by blanks or tabs."""
    from cagdask import storage
    from cagdask.errors import InputError

    if not storage.exists(url):
        raise InputError(f"{url}: no such file of {what}. Check the path.")
    try:
        lines = storage.read_bytes(url).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as err:
        raise InputError(f"{url}: is no text ({err.reason} at byte {err.start:,}). Save it as UTF-8.") from err
    found = []
    for number, line in enumerate(lines, start=1):
        words = line.split("\t") if "\t" in line else line.split()
        words = [word.strip() for word in words if word.strip()]
        if most is not None and len(words) > most:
            raise InputError(f"{url}: line {number} has {len(words)} genes; a question has at most {most}.")
        if words:
            found.append(words)
    if not found:
        raise InputError(f"{url}: holds no {what}. Write genes, in lines.")
    return found


def read_candidates(url: str | None) -> list[str] | None:
    """Genes of a file, separated by blanks, tabs or lines."""
    if url is None:
        return None
    return [name for line in read_queries(url, None, "candidates") for name in line]


def read_descriptions(url: str | None) -> dict[str, tuple[str, str]] | None:
    """Symbol and description by id, from a file if there is one."""
    if url is None:
        return None
    from cagdask.io.vectors import descriptions

    return descriptions.read_descriptions(url)


def converse(answer: Callable[[list[str]], Answers], names: Any, usage: str) -> Outcome:
    """Ask at a prompt that completes names; see :func:`cagdask.cli.prompt.converse`."""
    from cagdask.cli import prompt
    from cagdask.compute.progress import Reporter, reporting

    known = names.ids.tolist() + ([] if names.symbols is None else [s for s in names.symbols.tolist() if s])
    with reporting(Reporter()):
        prompt.converse(lambda words: answer(words).to_text(), known, usage)
    return {}, ""


_KEEP = "To keep it: add --output FILE.tsv (or .md, .json, .parquet); as a picture: --picture FILE.png."


def write_answers(answers: Answers, output: Sequence[str], picture: str | None, link: str | None) -> Outcome:
    """Write answers to files; gives them for ``--json``, and as text."""
    if picture:
        answers.draw(picture)
    answers.write(output, link)
    files = [*output, *([picture] if picture else [])]
    if not files:
        return answers.content, lambda: f"{answers.to_text()}\n\n{_KEEP}"
    return answers.content | {"files": files}, lambda: f"{answers.to_text()}\n\nwrote {', '.join(files)}"


def refuse_unused(unless: str, *names: str) -> None:
    """Refuse options that were given and that a question of this kind has no use for."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            flag = next(p for p in context.command.params if p.name == name).opts[-1]
            raise click.UsageError(f"{flag} {unless}; leave it out.")
