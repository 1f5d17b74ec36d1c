"""Tables of one sample that known tools write, recognised by their header: which column is the abundance.

    salmon quant.sf            Name Length EffectiveLength TPM NumReads          TPM
    kallisto abundance.tsv     target_id length eff_length est_counts tpm        tpm
    RSEM genes, isoforms       gene_id … expected_count TPM FPKM                 TPM
    featureCounts, 1 sample    Geneid Chr Start End Strand Length FILE           FILE
    jgi depth, 1 sample        contigName contigLen totalAvgDepth FILE FILE-var  FILE
    CoverM                     Contig (or Genome), one or more measures          the first
    htseq-count                two columns, no header, __counters at the end     the second
    STAR ReadsPerGene          four columns, no header, N_counters on top        the second (unstranded)

TPM is taken where there is one: it is free of a gene's length, as an abundance must be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Tool:
    """What is known of a tool's table.

    Attributes
    ----------
    name
        Of the tool.
    ids, value
        Columns of the ids and of the abundance.
    length
        Column of the lengths of genes; None where there is none.
    """

    name: str
    ids: str
    value: str
    length: str | None = None


COUNTERS = re.compile(
    r"__(no_feature|ambiguous|too_low_aqual|not_aligned|alignment_not_unique)|N_(unmapped|multimapping|noFeature|ambiguous)"
    r"|\*",
    re.IGNORECASE,
)
"""Rows of htseq-count, STAR and samtools idxstats that count reads of no gene."""
TOTALS = re.compile(r"TOTALS?|GRAND TOTAL", re.IGNORECASE)
"""Rows and columns of spreadsheets that add up the others."""
UNMAPPED = re.compile(rf"UNMAPPED|UNINTEGRATED|UNGROUPED|UNKNOWN|UNCLASSIFIED|{TOTALS.pattern}", re.IGNORECASE)
"""Rows of HUMAnN, MetaPhlAn and CoverM that hold what belongs to no gene, and those that add up the others."""
_WHOLE = (
    Tool("salmon", "Name", "TPM", "Length"),
    Tool("kallisto", "target_id", "tpm", "length"),
    Tool("RSEM", "gene_id", "TPM", "length"),
    Tool("RSEM", "transcript_id", "TPM", "length"),
)
_HEADERS = {
    "salmon": {"Name", "Length", "EffectiveLength", "TPM", "NumReads"},
    "kallisto": {"target_id", "length", "eff_length", "est_counts", "tpm"},
    "RSEM": {"length", "effective_length", "expected_count", "TPM", "FPKM"},
}


def recognise(names: list[str]) -> Tool | None:
    """The tool whose table of a single sample has this header; None for all others."""
    held = set(names)
    for tool in _WHOLE:
        if held >= _HEADERS[tool.name] | {tool.ids}:
            return tool
    return None


def recognise_single(names: list[str]) -> Tool | None:
    """The same where a table is known to hold one sample, so that fewer columns tell."""
    found = recognise(names)
    if found or not names:
        return found
    low = [name.strip().lower() for name in names]
    if low[:6] == ["geneid", "chr", "start", "end", "strand", "length"] and len(names) == 7:
        return Tool("featureCounts", names[0], names[6], names[5])
    if low[:3] == ["contigname", "contiglen", "totalavgdepth"]:
        return Tool("jgi_summarize_bam_contig_depths", names[0], names[3 if len(names) > 3 else 2], names[1])
    if low[0] in ("contig", "genome") and len(names) > 1:
        return Tool("CoverM", names[0], names[1])
    return None
