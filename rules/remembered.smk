# What Snakemake remembers of artefacts, put right by what they say of themselves (scripts/operate/remembered.py).
import atexit
from functools import cache

from snakemake.io import IOFile

from scripts.operate import remembered
from scripts.operate.why import dry_run as why_words

ALONE = remembered.of_steps(STUDY, STEPS_ASKED or {})  # artefacts asked for by path, made by jobs of their own


def forget(paths):
    """Have Snakemake not remember in what job whole artefacts were made."""
    for path in filter(os.path.exists, paths):
        workflow.persistence.cleanup_metadata(IOFile(path))


@cache
def correct(graph):
    """What Snakemake remembers of artefacts, put right by what they say of themselves; once a graph."""
    stale, moved = remembered.corrections(STUDY, Path(STUDY_FILE))
    graph.forcefiles.update(stale)
    forget([*moved, *ALONE])
    if why_words.ASKING in os.environ:
        atexit.register(tell_stale, graph, set(stale))


def tell_stale(graph, stale):
    """Print for `make why`, of each job that would run, its message and those of its artefacts that are not the study's:
    Snakemake gives no reasons of their own to jobs that follow from others."""
    for job in graph.needrun_jobs(exclude_finished=False):  # as a dry run ends, all count as finished
        if stale & set(job.output):
            print(why_words.STALE, json.dumps([job.message, sorted(stale & set(job.output))]), flush=True)


def corrected(wildcards):
    """No input: an input function of the rules that every graph begins with, called before the graph is weighed."""
    if workflow.is_main_process:
        correct(workflow.dag)
    return []
