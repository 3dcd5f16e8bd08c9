# Look-ups the rules share. What they return comes from scripts/study; nothing is decided here.
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from scripts.common.environment import prepare
from scripts.common.errors import UserError
from scripts.operate.preflight import begin, rehearse
from scripts.operate.start import record
from scripts.study import analyses, inputs, paths, sampling, targets
from scripts.study.config.study_file import APACHE
from scripts.study.stages import CONVERT, EVALUATE, GGUF, MEASURE, MEMORIZE, OF_EVERY_RUN, OF_MODELS, STAGES, TRAIN
from scripts.study.study import merged, parse as parse_study

STUDY_FILE = str(paths.STUDY)  # written by onstart; what every command reads

try:
    # A study stands alone: --configfile replaces config.yaml. It is read here, not by Snakemake, which lets pass a key
    # that stands twice, takes 1e-5 for text, and names no line of a mistake.
    files = workflow.overwrite_configfiles or [f"{workflow.basedir}/config.yaml"]
    STUDY = parse_study(merged(map(Path, files), workflow.config_settings.config))
    if workflow.output_settings.dryrun:  # whose onstart is left out
        rehearse(STUDY)
except UserError as error:
    sys.exit(f"error in the study file:\n{error}")

prepare(workflow.basedir, STUDY.file.runtime.threads)

TRAINED = list(STUDY.trained)  # the others are external
CORPORA = list(STUDY.file.data.corpora)
DOCUMENTS = inputs.documents(STUDY)
RUNTIME = STUDY.file.runtime
THREADS = RUNTIME.threads
FIRST = 10**15  # priority of the data, which every run waits for; runs come by their parameters
STATED_LICENCE = [STUDY.file.licence] if STUDY.file.licence != APACHE else []  # a param of what tells it
GPUS = int(RUNTIME.device == "cuda")


def any_of(names):
    """What a wildcard matches that stands for one of these names."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    run=any_of(STUDY.runs),
    corpus=any_of([*CORPORA, paths.HELD_OUT.name]),
    component=any_of(STUDY.file.data.components),
    task_set=any_of(STUDY.file.evaluation.task_sets),
    seed=r"\d+",
    part=r"\d+",
    segment=r"\d+",
    group=r"\d+",
    step=r"\d+",


def corpus_manifest(wildcards):
    return f"{paths.corpus(STUDY.run(wildcards.run).corpus)}/manifest.json"


def order_manifest(wildcards):
    run = STUDY.run(wildcards.run)
    return f"{paths.order(run.corpus, run.data_seed)}/manifest.json"


def largest_first(wildcards):
    """Priority of a run's jobs: the longest start first, so that the last ones are short."""
    return STUDY.run(wildcards.run).size.non_embedding_parameters


def later(*lists):
    """Files as an input that is looked at only in a graph with this rule: every job starts Snakemake, and the suite has
    tens of thousands of files."""
    files = [file for each in lists for file in each]
    return lambda wildcards: files


# --- what each phase makes ----------------------------------------------------------------------

DATA = targets.data(STUDY)
CHECKPOINTS = targets.checkpoints(STUDY)
RECORDINGS = targets.recordings(STUDY)
OF_STAGES = {stage.name: stage.files(STUDY) for stage in (CONVERT, *OF_MODELS)}
EXPORT_TABLES = targets.export_tables(STUDY)
TABLES = targets.tables(STUDY)
OF_REPORT = targets.of_report(STUDY)  # analyses
SCIENCE = targets.science(STUDY)
RESULTS = targets.results(STUDY)
CARDS = targets.cards(STUDY)
RECENCIES = targets.recencies(STUDY)
AUDIT = targets.audit(STUDY)
