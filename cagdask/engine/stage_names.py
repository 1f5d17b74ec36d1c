"""Names of stages: what progress lines, plans, messages about memory and ``run.json`` call them.

Each says what is done, in words of the analysis. A run keeps the results of finished tasks under these names, so a
change of one is a change of :data:`cagdask.cags.jobs.WORK_FORMAT`.
"""

from __future__ import annotations

PROFILES = "normalize genes"
FOLD = "find identical genes"
MEMBERS = "count distinct genes"

FIND_PIVOTS, SORT_BLOCKS = "choose pivots", "sort genes by pivot"
PLAN_CHUNKS, GATHER_CHUNKS, LIST_CHUNKS = "plan chunks", "gather chunks", "pair chunks"
SEARCH = "search neighbors"
SEARCH_OWN, SEARCH_LISTS = f"{SEARCH} within chunks", f"{SEARCH}, finish lists"
DRAW_ROWS, SEARCH_DRAWN = f"{SEARCH}, draw genes for recall", f"{SEARCH}, exactly for recall"
COUNT_FOUND = f"{SEARCH}, measure recall"
"""Stages of a round that order the rows and search them."""

FIND_COMPONENTS, MERGE = "find components", "merge groups"
"""Stages of a round of average linkage, after those of ordering and searching."""
MARK_JOINED, JOIN, TAKE_OPEN = "mark joined genes", "join genes", "take genes with full lists"
"""The same of single linkage."""
TREE, CUT = "write merge tree", "cut merge tree"

REFINE = "refine CAGs"
JOIN_PAIRS, GATHER, COMPARE, CHOOSE_PAIRS = "join CAGs", "gather CAGs", "compare CAGs", "choose pairs"
CHOOSE_ORPHANS, COMPARE_ORPHANS = "choose CAGs", "compare CAGs again"
"""Stages of a round of refinement."""
ATTACH = "attach small CAGs"
LABELS = "number CAGs"

MEASURE_GENES = "measure genes"
WRITE_CAGS, WRITE_GENES, WRITE_MERGES = "write CAGs", "write genes", "copy merge tree"
DESCRIBE_CAGS = "describe CAGs"
PROFILE_CAGS, RELATE_CAGS, JUDGE_GENES = "profile CAGs", "find shared CAGs", "judge genes"
WRITE_CORE = "write core abundances"


def linkage_round(number: int) -> str:
    """What the stages of a round of linkage begin with."""
    return f"clustering round {number}"


def last_stage(n_groups: int) -> str:
    """The stage of a round that one task does alone.

    >>> last_stage(1897), last_stage(1)
    ('finish the last 1,897 groups', 'finish the last group')
    """
    return f"finish the last {n_groups:,} groups" if n_groups != 1 else "finish the last group"


def refinement_round(number: int) -> str:
    """What the stages of a round of refinement begin with."""
    return f"refinement round {number}"
