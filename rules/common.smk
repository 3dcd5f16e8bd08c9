# Look-ups the rules share. What they return comes from scripts/study; nothing is decided here.
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from scripts.common.environment import prepare
from scripts.common.errors import UserError
from scripts.evaluate.names import task_files
from scripts.operate.preflight import begin, rehearse
from scripts.operate.start import record
from scripts.study import analyses, paths, sampling, targets
from scripts.study.config.study_file import APACHE
from scripts.study.fingerprints import run_settings
from scripts.study.stages import CONVERT, EVALUATE, GGUF, MEASURE, MEMORIZE, OF_EVERY_RUN, OF_MODELS, STAGES
from scripts.study.stages import alone, inherited, of_step
from scripts.study.study import merged, parse as parse_study
from scripts.study.texts import holdable, matching, within

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

RUNS = list(STUDY.runs)
TRAINED = list(STUDY.trained)  # the others are external
CORPORA = list(STUDY.file.data.corpora)
COMPONENTS = list(STUDY.file.data.components)
PARTS = list(range(STUDY.part_count))
TOKENIZER_FILE = holdable(matching(STUDY.file.data.tokenizer.file or ""))
DOCUMENTS = [f"{block.folder}/manifest.json" for block in STUDY.blocks()]
TASK_SETS = list(STUDY.file.evaluation.task_sets)
RUNTIME = STUDY.file.runtime
THREADS = RUNTIME.threads
FIRST = 10**15  # priority of the data, which every run waits for; runs come by their parameters
STATED_LICENCE = [STUDY.file.licence] if STUDY.file.licence != APACHE else []  # a param of what tells it
GPUS = int(RUNTIME.device == "cuda")


wildcard_constraints:
    run="|".join(map(re.escape, RUNS)),
    corpus="|".join(map(re.escape, [*CORPORA, paths.HELD_OUT.name])),
    component="|".join(map(re.escape, COMPONENTS)),
    task_set="|".join(map(re.escape, TASK_SETS)),
    seed=r"\d+",
    part=r"\d+",
    segment=r"\d+",
    group=r"\d+",
    step=r"\d+",


def component_files(wildcards):
    """Files on disk a component is made of; an archive has none before it is fetched."""
    patterns = STUDY.file.data.components[wildcards.component].files or []
    return holdable(path for pattern in patterns for path in matching(pattern))


def component_settings(wildcards):
    return STUDY.component_settings(wildcards.component)


def component_parts(wildcards):
    return STUDY.parts(wildcards.component)


def part_documents(wildcards):
    """What the documents of one part are read from."""
    return [f"{block.folder}/manifest.json" for block in STUDY.blocks() if block.part == int(wildcards.part)]


def corpus_sources(wildcards):
    """What a corpus is joined from: published files, or the pieces of its parts and what they were made from."""
    corpus = STUDY.file.data.corpora.get(wildcards.corpus)  # the held-out split is none of them
    if corpus and corpus.external:
        return [f"{paths.external(wildcards.corpus)}/manifest.json"]
    pieces = [str(paths.pieces(wildcards.corpus, part)) for part in PARTS]
    return [*pieces, *DOCUMENTS, f"{paths.CLUSTERS}/manifest.json", f"{paths.TOKENIZER}/manifest.json"]


def external_files(wildcards):
    """Token files on disk that a corpus is joined from; those of the hub are not there before they are downloaded."""
    published = STUDY.file.data.corpora[wildcards.corpus].external
    if published is None or published.folder is None:
        return []
    found = [path for pattern in (published.shards, published.index) for path in within(published.folder, pattern)]
    return holdable([*found, *matching(published.hashes or "")])


def corpus_settings(wildcards):
    return STUDY.corpus_settings(wildcards.corpus)


def order_settings(wildcards):
    return STUDY.order_settings(wildcards.corpus, int(wildcards.seed))


def train_settings(wildcards):
    return run_settings(STUDY, wildcards.run)


def fetch_settings(wildcards):
    return STUDY.external_settings(wildcards.run)


def evaluation_settings(wildcards):
    return STUDY.evaluation_settings(wildcards.task_set)


def export_settings(wildcards):
    return STUDY.export_settings(wildcards.run)


def included_tasks(wildcards):
    """Files of the folder of tasks that a task set names."""
    return holdable(task_files(STUDY.file.evaluation.task_sets[wildcards.task_set].include_path))


def external_scores(wildcards):
    """Files of the published scores that are shown beside the study's."""
    place = STUDY.file.evaluation.external
    if place is None or not Path(place).exists():  # refused at the start
        return []
    return holdable(Path(place).rglob("*.json") if Path(place).is_dir() else [place])


def corpus_manifest(wildcards):
    return f"{paths.corpus(STUDY.run(wildcards.run).corpus)}/manifest.json"


def order_manifest(wildcards):
    run = STUDY.run(wildcards.run)
    return f"{paths.order(run.corpus, run.data_seed)}/manifest.json"


def segment_before(run, segment):
    """What a segment resumes from: the one before, or the parent of an intervention's run; nothing for a run's first."""
    if segment > 1:
        return [f"{paths.segment(run, segment - 1)}/manifest.json"]
    return STUDY.ancestors(run)


def replayed_files(wildcards):
    """A step's checkpoint's run, its model, and what was made of that where the step was looked at."""
    return [f"{paths.checkpoints(wildcards.run)}/manifest.json", *of_step(STUDY, wildcards.run, int(wildcards.step))]


def largest_first(wildcards):
    """Priority of a run's jobs: the longest start first, so that the last ones are short."""
    return STUDY.run(wildcards.run).size.non_embedding_parameters


def later(*lists):
    """Files as an input that is looked at only in a graph with this rule: every job starts Snakemake, and the suite has
    tens of thousands of files."""
    files = [file for each in lists for file in each]
    return lambda wildcards: files


# --- what each phase makes ----------------------------------------------------------------------

FETCHED = targets.fetched(STUDY)
DATA = targets.data(STUDY)
CHECKPOINTS = targets.checkpoints(STUDY)
OF_STAGES = {stage.name: stage.files(STUDY) for stage in (CONVERT, *OF_MODELS)}
MODELS = OF_STAGES[CONVERT.name]
LAST_MODELS = targets.last_models(STUDY)
EXPORT_TABLES = targets.export_tables(STUDY)
TABLES = targets.tables(STUDY)
OF_REPORT = targets.of_report(STUDY)  # analyses
SCIENCE = targets.science(STUDY)
RESULTS = targets.results(STUDY)
CARDS = targets.cards(STUDY)
REPLAYED = targets.replayed(STUDY)
RECENCIES = targets.recencies(STUDY)
AUDIT = targets.audit(STUDY)
PROVENANCE = targets.provenance(STUDY)
