"""Commands that ask a store of vectors: ``similar``, ``analogy``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cagdask.cli.asking import (
    check_files,
    check_ways,
    converse,
    outputs,
    read_candidates,
    read_descriptions,
    read_queries,
    refuse_unused,
    write_answers,
)
from cagdask.cli.options import Outcome, Setting, computes, declared
from cagdask.cli.task_help import TaskCommand
from cagdask.normalization.options import CLR_FLOOR
from cagdask.vectors.options import ANALOGY, NORMALIZATION, SIMILAR, TOP_PAIRS

if TYPE_CHECKING:
    from cagdask.vectors.answers import Answers


@click.command(cls=TaskCommand)
@click.argument("source", metavar="STORE")
@click.argument("genes", nargs=-1, metavar="[GENE]...")
@declared(SIMILAR, TOP_PAIRS, NORMALIZATION, CLR_FLOOR)
@outputs
@computes
def similar(
    setting: Setting,
    source: str,
    genes: tuple[str, ...],
    top_pairs: int | None,
    normalization: str | None,
    clr_floor: Any,
    descriptions: str | None,
    query_file: str | None,
    interactive: bool,
    output: tuple[str, ...],
    picture: str | None,
    link: str | None,
    **options: Any,
) -> Outcome:
    """Find the genes that are most similar to one gene, or to several.

    STORE holds a vector per gene (abundances, an embedding, loadings), or is a result store, whose CAGs are named by
    their numbers. A gene is named by its id or symbol.
    """
    ways = {"GENE": genes, "--query-file": query_file, "--top-pairs": top_pairs, "--interactive": interactive}
    check_ways(setting, output, picture, **ways)
    from cagdask.vectors.all_pairs import check_pairs
    from cagdask.vectors.answers import similarity_answers, top_pair_answers
    from cagdask.vectors.similarity import check_search, open_similarity

    queries = read_queries(query_file, None) if query_file else [list(genes)] if genes else []
    check_search(queries, **options)
    if top_pairs:
        check_pairs(top_pairs, options["metric"])
        refuse_unused("is for questions about genes, not for --top-pairs", "k", "combine")
    check_files(setting, output, picture, link, many=len(queries) > 1)
    with open_similarity(
        source,
        descriptions=read_descriptions(descriptions),
        normalization=normalization,
        clr_floor=clr_floor,
        **setting.where,
    ) as session:
        if interactive:
            return converse(
                lambda words: similarity_answers(session, [words], **options), session.names, "Type a gene, or several."
            )
        if top_pairs:
            answers = top_pair_answers(session, top_pairs, options["metric"])
        else:
            answers = similarity_answers(session, queries, many=bool(query_file), **options)
        return write_answers(answers, output, picture, link)


@click.command(cls=TaskCommand)
@click.argument("source", metavar="STORE")
@click.argument("a", required=False)
@click.argument("b", required=False)
@click.option("--given", metavar="C", help="A third gene: find the fourth.")
@click.option("--free-b", is_flag=True, help="Only A is given: find B, C and D.")
@declared(ANALOGY)
@click.option("--candidates", metavar="FILE", help="Genes that B, C and D are taken from; default: all.")
@declared(NORMALIZATION, CLR_FLOOR)
@outputs
@computes
def analogy(
    setting: Setting,
    source: str,
    a: str | None,
    b: str | None,
    given: str | None,
    free_b: bool,
    candidates: str | None,
    normalization: str | None,
    clr_floor: Any,
    descriptions: str | None,
    query_file: str | None,
    interactive: bool,
    output: tuple[str, ...],
    picture: str | None,
    link: str | None,
    **options: Any,
) -> Outcome:
    """Solve A : B :: C : D for the genes that are not given.

    STORE is as for similar. C - D is compared with A - B (or C + D with A + B), exactly.
    """
    check_ways(setting, output, picture, A=a, **{"--query-file": query_file, "--interactive": interactive})
    _check_question(a, b, given, free_b)
    from cagdask.vectors.analogies.rules import check_rules
    from cagdask.vectors.analogies.session import open_analogies
    from cagdask.vectors.answers import analogy_answers, parse_question

    queries = [parse_question(words) for words in read_queries(query_file, 3)] if query_file else []
    queries += [(a, b, given)] if a else []
    rules, chosen = check_rules(queries, **options)
    check_files(setting, output, picture, link, many=len(queries) > 1)
    with open_analogies(
        source,
        candidates=read_candidates(candidates),
        descriptions=read_descriptions(descriptions),
        normalization=normalization,
        clr_floor=clr_floor,
        **setting.where,
    ) as session:

        def answer(asked: list[Any], many: bool = False) -> Answers:
            return analogy_answers(session, asked, rules, many=many, n_workers=setting.n_workers, **chosen)

        if interactive:
            usage = "Type two genes A B (or three, A B C, to find the fourth; or A alone)."
            return converse(lambda words: answer([parse_question(words)]), session.names, usage)
        return write_answers(answer(queries, bool(query_file)), output, picture, link)


def _check_question(a: str | None, b: str | None, given: str | None, free_b: bool) -> None:
    """Refuse genes and options that do not go together."""
    if a and (b is None) != free_b:
        raise click.UsageError("Give B, or --free-b to find it." if b is None else "--free-b finds B; leave B out.")
    if not a:
        refuse_unused("goes with A; in a file or at the prompt, a gene alone asks for all others", "free_b")
    if given and not a:
        raise click.UsageError("--given goes with A and B; in a file or at the prompt, write C as a third gene.")
