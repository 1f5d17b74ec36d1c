"""Answers to questions as people and programs read them: titles and notes, JSON, text, files, pictures.

session --answers--> Answers --+--> sections   (Markdown, TSV, Parquet, a terminal)
                              +--> content    (JSON)
                              +--> picture
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cagdask.errors import InputError
from cagdask.vectors.all_pairs import check_pairs, find_pairs
from cagdask.vectors.analogies.rules import Asked, Rules
from cagdask.vectors.analogies.session import Session
from cagdask.vectors.similarity import SimilaritySession
from cagdask.vectors.tables import Found, Section, as_text, records, with_descriptions, write_sections


@dataclass(frozen=True)
class Answers:
    """Answers to one question or to several.

    Attributes
    ----------
    found
        What was found for each question, best first.
    titles, notes
        What was asked, and a sentence to stand below each answer, or none.
    facts
        What JSON says of each question beside its answers.
    what
        What JSON calls the answers: ``neighbors`` or ``pairs``.
    many
        Whether questions came as a list: JSON then holds ``queries``, even if it is one.
    draw
        Draws a picture of the answer to a single question into a file.
    """

    found: list[Found]
    titles: list[str]
    notes: list[str]
    facts: list[dict[str, Any]]
    what: str
    draw: Callable[[str], None]
    many: bool = False

    @property
    def sections(self) -> list[Section]:
        """Title, answer and note of each question."""
        return [Section(*each) for each in zip(self.titles, self.found, self.notes, strict=True)]

    @cached_property
    def content(self) -> dict[str, Any]:
        """All of it as one JSON object; pairs without symbols and descriptions of their genes."""
        content = []
        for fact, found in zip(self.facts, self.found, strict=True):
            genes = {"genes": fact["genes"]} if "genes" in fact else {}
            content.append(genes | {self.what: records(found)} | fact)
        return {"queries": content} if self.many else content[0]

    def to_text(self) -> str:
        """All of it for a terminal."""
        return as_text(self.sections)

    def write(self, files: Sequence[str], link: str | None = None) -> None:
        """Write each file, in the format of its suffix; see :func:`cagdask.vectors.tables.write_sections`."""
        for url in files:
            write_sections(url, self.sections, self.content, link)


# -- similarity --------------------------------------------------------------------------------------------------------


def similarity_answers(
    session: SimilaritySession, queries: Sequence[Sequence[str]], *, many: bool = False, **options: Any
) -> Answers:
    """What is most like the genes of each query; options as for :func:`cagdask.similar`."""
    from cagdask.vectors.pictures import draw_neighbors

    answers = session.find(queries, **options)
    metric, combine = options.get("metric", "cosine"), options.get("combine", "joint")
    facts = [{"genes": list(genes)} | found.attrs for genes, found in zip(queries, answers, strict=True)]
    without = [fact["n_without_direction"] for fact in facts]

    def draw(url: str) -> None:
        draw_neighbors(url, session.vectors, session.names, list(queries[0]), answers[0].columns["gene"], metric)

    return Answers(
        answers,
        [_similarity_title(genes, metric, combine) for genes in queries],
        [_similarity_note(genes, metric, combine, n) for genes, n in zip(queries, without, strict=True)],
        facts,
        "neighbors",
        draw,
        many,
    )


def _similarity_title(genes: Sequence[str], metric: str, combine: str) -> str:
    if len(genes) == 1:
        return f"Most like {genes[0]} by {metric}"
    if combine == "joint":
        return f"Most like {', '.join(genes)} together by {metric}"
    return f"Like {genes[0]} and unlike {', '.join(genes[1:])} by {metric}"


def _similarity_note(genes: Sequence[str], metric: str, combine: str, n_without: int) -> str:
    """What the scores of several genes mean, and what was left out."""
    n, parts = len(genes), []
    if n > 1 and combine == "joint":
        parts.append(
            f"Similarity is the sum of the squared {metric}s to the {n} genes: {n} for a gene that points along all of "
            "them, 0 for one that is unrelated to all."
        )
    elif n > 1:
        of = "minus the distance" if metric == "euclidean" else f"the {metric}"
        parts.append(f"Similarity is {of} to {genes[0]}, less the mean of those to the others.")
    if n_without:
        parts.append(f"{n_without:,} vectors without direction were left out.")
    return " ".join(parts)


def top_pair_answers(session: SimilaritySession, n: int, metric: str) -> Answers:
    """The ``n`` most similar pairs, and how similar all pairs are; see :func:`cagdask.similar_pairs`."""
    from cagdask.vectors.pictures import draw_histogram

    n, metric = check_pairs(n, metric)
    table = find_pairs(session.make_ready(), session.names, session.runner, n, metric)
    summary = table.attrs["summary"]
    without = summary["n_without_direction"]
    note = (
        f"All {summary['n_pairs']:,} pairs: mean {summary['mean']:.6f}, standard deviation {summary['std']:.6f}, "
        f"{summary['minimum']:.6f} to {summary['maximum']:.6f}."
        + (f" {without:,} vectors without direction were left out." if without else "")
    )
    return Answers(
        [with_descriptions(Found.of(table), session.names)],
        [f"Most similar pairs by {metric}"],
        [note],
        [{"summary": summary}],
        "pairs",
        lambda url: draw_histogram(url, summary, metric),
    )


# -- analogies ---------------------------------------------------------------------------------------------------------


def analogy_answers(
    session: Session, questions: Sequence[Asked], rules: Rules, *, many: bool = False, **options: Any
) -> Answers:
    """Solutions of each question; options as for :meth:`cagdask.vectors.analogies.session.Session.find`."""
    from cagdask.vectors.pictures import draw_analogies

    answers = session.find(questions, rules, described=True, **options)
    facts = [
        {"genes": [name for name in asked if name is not None]} | found.attrs
        for asked, found in zip(questions, answers, strict=True)
    ]
    return Answers(
        answers,
        [_analogy_title(asked, rules) for asked in questions],
        [_analogy_note(found) for found in answers],
        facts,
        "pairs",
        lambda url: draw_analogies(url, session.vectors, session.names, answers[0].columns, rules.sign),
        many,
    )


def _analogy_title(asked: Asked, rules: Rules) -> str:
    a, b, given = asked
    if given is not None:
        return f"{a} is to {b} as {given} is to"
    symbol = "-" if rules.sign > 0 else "+"
    return f"Most like {a} {symbol} {b or '?'} by {rules.metric}"


def _analogy_note(found: Found) -> str:
    zero, equal = found.attrs["n_zero"], found.attrs["n_duplicates"]
    parts = [f"{zero:,} zero vectors were left out."] if zero else []
    parts += [f"{equal:,} vectors are equal to another; two equal ones are no pair."] if equal else []
    if not all(found.columns["certified"]):
        parts.append("Not certified: a better answer may have been missed; an exact search finds all.")
    return " ".join(parts)


def parse_question(words: Sequence[str]) -> Asked:
    """A question from one to three names.

    Raises
    ------
    InputError
        There are none, or more.
    """
    if not 1 <= len(words) <= 3:
        raise InputError("Type two genes, or three to find the fourth, or one to find all others.")
    a, b, c = [*words, None, None][:3]
    assert a is not None
    return a, b, c
