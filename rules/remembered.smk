# What Snakemake remembers of artefacts, put right by what they say of themselves (scripts/study/remembered.py).
from functools import cache

from snakemake.io import IOFile

from scripts.study import remembered


@cache
def correct(graph):
    """What Snakemake remembers of artefacts, put right by what they say of themselves; once a graph."""
    stale, moved = remembered.corrections(STUDY, Path(STUDY_FILE))
    graph.forcefiles.update(stale)
    for path in moved:
        workflow.persistence.cleanup_metadata(IOFile(path))


def corrected(wildcards):
    """No input: an input function of the rules that every graph begins with, called before the graph is weighed."""
    if workflow.is_main_process:
        correct(workflow.dag)
    return []
