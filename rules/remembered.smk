# What Snakemake remembers of artefacts, put right by what they say of themselves (scripts/operate/remembered.py).
import atexit
from functools import cache

from snakemake.io import IOFile

from scripts.common.files import write_json
from scripts.operate import remembered
from scripts.operate.why.dry_run import ASKING, of_graph

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


def corrected(wildcards):
    """No input: an input function of the rules that every graph begins with, called before the graph is weighed."""
    if workflow.is_main_process:
        correct(workflow.dag)
    return []


def tell_jobs():
    """Write for `make why` what the dry run came to; where the graph could not be made there is none."""
    if workflow.dag is not None:
        write_json(Path(os.environ[ASKING]), of_graph(workflow.dag))


if ASKING in os.environ:
    atexit.register(tell_jobs)  # as a dry run has no onsuccess
