"""Commands that ask a store of vectors: ``similar``, ``analogy``."""

from __future__ import annotations

from typing import Any

import click

from cagdask.cli.asking import (
    as_text,
    asking,
    check_files,
    check_kinds,
    converse,
    names_of,
    read_candidates,
    read_queries,
    refuse_unused,
    written,
)
from cagdask.cli.options import COUNT, Outcome, Setting, computes

Asked = tuple[str, str | None, str | None]
"""The genes a, b and c of a question."""


# -- similar ---------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("source", metavar="STORE")
@click.argument("genes", nargs=-1, metavar="[GENE]...")
@click.option(
    "--metric",
    type=click.Choice(["cosine", "correlation", "euclidean"]),
    default="cosine",
    show_default=True,
    help="How two vectors are compared.",
)
@click.option(
    "--combine",
    type=click.Choice(["joint", "contrast"]),
    default="joint",
    show_default=True,
    help="Several genes: like all of them (sum of squares), or like the first and unlike the others.",
)
@click.option("--top-pairs", type=COUNT, metavar="N", help="The N most similar pairs of all genes, and a histogram.")
@asking
@computes
def similar(
    setting: Setting,
    source: str,
    genes: tuple[str, ...],
    metric: str,
    combine: str,
    top_pairs: int | None,
    k: int,
    normalization: str | None,
    clr_floor: Any,
    descriptions: str | None,
    query_file: str | None,
    interactive: bool,
    output: tuple[str, ...],
    picture: str | None,
    link: str | None,
) -> Outcome:
    """Find the genes most like one, or several.

    STORE holds a vector per gene (abundances, an embedding, loadings), or is a result store, whose CAGs are compared by
    number. A gene is named by its id or symbol.
    """
    check_kinds(**{"GENE": genes, "--query-file": query_file, "--top-pairs": top_pairs, "--interactive": interactive})
    if interactive and (setting.as_json or output or picture):
        raise click.UsageError("--interactive prints tables; --json, --output and --picture are for questions given.")
    from cagdask.vectors.all_pairs import check_pairs, find_pairs
    from cagdask.vectors.similarity import check_search, search
    from cagdask.vectors.sources import opened, prepared
    from cagdask.vectors.tables import Section, records, with_descriptions

    queries = read_queries(query_file, None) if query_file else [list(genes)] if genes else []
    check_search(k, metric, combine, queries)
    if top_pairs:
        check_pairs(top_pairs, metric)
        refuse_unused("is for questions about genes, not for --top-pairs", "k", "combine")
    check_files(setting, output, picture, link, many=len(queries) > 1)
    with opened(source, normalize=normalization, clr_floor=clr_floor, **setting.where) as (vectors, runner):
        names = names_of(vectors, descriptions)
        names.rows([name for query in queries for name in query])  # all are known, before any work
        vectors = prepared(vectors, runner)

        def answers(asked: list[list[str]]) -> list[Section]:
            tables = search(vectors, names, runner, asked, k=k, metric=metric, combine=combine)
            return [
                Section(_title_similar(q, metric, combine), t, _note(t)) for q, t in zip(asked, tables, strict=True)
            ]

        if interactive:

            def answer(words: list[str]) -> str:
                check_search(k, metric, combine, [words])
                return as_text(answers([words]))

            return converse(answer, names, "Type a gene, or several.")
        if top_pairs:
            table = find_pairs(vectors, names, runner, top_pairs, metric)
            summary = table.attrs["summary"]
            sections = [
                Section(f"Most similar pairs by {metric}", with_descriptions(table, names), _pairs_note(summary))
            ]
            content: dict[str, Any] = {"pairs": records(table), "summary": summary}
            if picture:
                from cagdask.vectors.pictures import draw_histogram

                draw_histogram(picture, summary, metric)
            return written(sections, content, output, picture, link)
        sections = answers(queries)
        found = [
            {"genes": q, "neighbors": records(s.table), "n_without_direction": s.table.attrs["n_without_direction"]}
            for q, s in zip(queries, sections, strict=True)
        ]
        if picture:
            from cagdask.vectors.pictures import draw_neighbors

            draw_neighbors(picture, vectors, names, queries[0], sections[0].table, metric)
    return written(sections, {"queries": found} if query_file else found[0], output, picture, link)


def _title_similar(genes: list[str], metric: str, combine: str) -> str:
    if len(genes) == 1:
        return f"Most like {genes[0]} by {metric}"
    if combine == "joint":
        return f"Most like {', '.join(genes)} together by {metric}"
    return f"Like {genes[0]} and unlike {', '.join(genes[1:])} by {metric}"


def _note(table: Any) -> str:
    n = table.attrs["n_without_direction"]
    return f"{n:,} vectors without direction were left out." if n else ""


def _pairs_note(summary: dict[str, Any]) -> str:
    without = summary["n_without_direction"]
    more = f" {without:,} vectors without direction were left out." if without else ""
    return (
        f"All {summary['n_pairs']:,} pairs: mean {summary['mean']:.6f}, standard deviation {summary['std']:.6f}, "
        f"{summary['minimum']:.6f} to {summary['maximum']:.6f}.{more}"
    )


# -- analogy ---------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("source", metavar="STORE")
@click.argument("a", required=False)
@click.argument("b", required=False)
@click.option("--given", metavar="C", help="A third gene: find the fourth.")
@click.option("--free-b", is_flag=True, help="Only A is given: find B, C and D.")
@click.option("--exact", is_flag=True, help="With --free-b: search every B in full, on workers, instead of screening.")
@click.option(
    "--metric",
    type=click.Choice(["cosine", "euclidean"]),
    default="cosine",
    show_default=True,
    help="How two differences are compared.",
)
@click.option(
    "--operation",
    type=click.Choice(["difference", "sum"]),
    default="difference",
    show_default=True,
    help="What of two genes is compared.",
)
@click.option(
    "--method",
    type=click.Choice(["add", "mul"]),
    default="add",
    show_default=True,
    help="With --given: 3CosAdd or 3CosMul.",
)
@click.option(
    "--allow-shared/--exclude-shared", "shared", default=False, show_default=True, help="Whether A or B may be C or D."
)
@click.option(
    "--max-sim", type=click.FloatRange(-1, 1), help="Leave out C more like A than this cosine, and D more like B."
)
@click.option("--candidates", metavar="FILE", help="Genes that B, C and D are taken from; default: all.")
@asking
@computes
def analogy(
    setting: Setting,
    source: str,
    a: str | None,
    b: str | None,
    given: str | None,
    free_b: bool,
    exact: bool,
    metric: str,
    operation: str,
    method: str,
    shared: bool,
    max_sim: float | None,
    candidates: str | None,
    k: int,
    normalization: str | None,
    clr_floor: Any,
    descriptions: str | None,
    query_file: str | None,
    interactive: bool,
    output: tuple[str, ...],
    picture: str | None,
    link: str | None,
) -> Outcome:
    """Find the pairs C, D that are to each other as A is to B.

    STORE is as for similar. C - D is compared with A - B (or C + D with A + B), exactly.
    """
    check_kinds(A=a, **{"--query-file": query_file, "--interactive": interactive})
    if a and (b is None) != free_b:
        raise click.UsageError("Give B, or --free-b to find it." if b is None else "--free-b finds B; leave B out.")
    if interactive and (setting.as_json or output or picture):
        raise click.UsageError("--interactive prints tables; --json, --output and --picture are for questions given.")
    if not a:
        refuse_unused("goes with A; in a file or at the prompt, a gene alone asks for all others", "free_b")
    if given and not a:
        raise click.UsageError("--given goes with A and B; in a file or at the prompt, write C as a third gene.")
    from cagdask.vectors.analogies.rules import Rules, check_rules
    from cagdask.vectors.analogies.session import Session
    from cagdask.vectors.sources import opened, prepared
    from cagdask.vectors.tables import Section, records, with_descriptions

    rules = Rules(metric, operation, shared, max_sim)
    queries: list[Asked] = [_three(words) for words in read_queries(query_file, 3)] if query_file else []
    queries += [(a, b, given)] if a else []
    check_rules(rules, k, method, queries, exact=exact)
    check_files(setting, output, picture, link, many=len(queries) > 1)
    among = read_candidates(candidates)
    with opened(source, normalize=normalization, clr_floor=clr_floor, **setting.where) as (vectors, runner):
        names = names_of(vectors, descriptions)
        asked = [name for query in queries for name in query if name is not None]
        names.rows([*asked, *(among or ())])  # all are known, before any work
        vectors = prepared(vectors, runner)
        session = Session(vectors, names, runner, among)

        def answer(asked: Asked) -> tuple[Section, Any]:
            table = session.answer(*asked, rules, k=k, method=method, exact=exact, n_workers=setting.n_workers)
            return Section(_title_analogy(asked, rules), with_descriptions(table, names), _analogy_note(table)), table

        if interactive:

            def reply(words: list[str]) -> str:
                if len(words) > 3:
                    raise ValueError("Type two genes, or three to find the fourth, or one to find all others.")
                check_rules(rules, k, method, [_three(words)], exact=exact)
                return as_text([answer(_three(words))[0]])

            return converse(reply, names, "Type two genes A B (or three, A B C, to find the fourth; or A alone).")
        answered = [answer(asked) for asked in queries]
        found = [
            {"genes": [name for name in asked if name is not None], "pairs": records(table)} | table.attrs
            for asked, (_, table) in zip(queries, answered, strict=True)
        ]
        if picture:
            from cagdask.vectors.pictures import draw_analogies

            draw_analogies(picture, vectors, names, answered[0][1], rules.sign)
    content = {"queries": found} if query_file else found[0]
    return written([section for section, _ in answered], content, output, picture, link)


def _three(words: list[str]) -> Asked:
    a, b, c = [*words, None, None][:3]
    assert a is not None
    return a, b, c


def _title_analogy(asked: Asked, rules: Any) -> str:
    a, b, given = asked
    if given is not None:
        return f"{a} is to {b} as {given} is to"
    symbol = "-" if rules.sign > 0 else "+"
    return f"Most like {a} {symbol} {b or '?'} by {rules.metric}"


def _analogy_note(table: Any) -> str:
    zero, equal = table.attrs["n_zero"], table.attrs["n_duplicates"]
    parts = [f"{zero:,} zero vectors were left out."] if zero else []
    parts += [f"{equal:,} vectors are equal to another; two equal ones are no pair."] if equal else []
    if len(table) and not table["certified"].all():
        parts.append("Not certified: a better answer may have been missed; --exact searches all.")
    return " ".join(parts)
