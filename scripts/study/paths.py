"""Every path of a study's folder, relative to it, under one name each; what the files hold: docs/formats.md.

Functions take the names that a path is made of, be it a pattern's {step} or a glob's *. They give a Path; an f-string
makes of it the text that manifests and the graph name it by. Where tens of thousands are made, a Stage's patterns are
filled in as text (`stages.py`).
"""

from __future__ import annotations

from pathlib import Path

Part = int | str

DATA = Path("data")  # texts, tokens and orders: may be shared by studies
CHECKPOINTS = Path("checkpoints")  # training states in NeoX layout, with what the runs logged
RECORDINGS = Path("recordings")  # what was kept of steps beside their weights
MODELS = Path("models")  # weights in Transformers format
EXPORTS = Path("exports")  # GGUF files
RESULTS = Path("results")  # scores, tables, figures, pages, and the audit
LOGS = Path("logs")  # of each job
BENCHMARKS = Path("benchmarks")  # what each job took, by Snakemake
FOLDERS = (DATA, CHECKPOINTS, RECORDINGS, MODELS, EXPORTS, RESULTS, LOGS, BENCHMARKS)

# --- below data/ --------------------------------------------------------------------------------

DOCUMENTS = DATA / "documents"  # of all components
CLUSTERS = DATA / "clusters"  # documents that are near duplicates
TOKENIZER = DATA / "tokenizer"  # that of all corpora
VOCABULARY = TOKENIZER / "tokenizer.json"  # its file
TASKS = DATA / "tasks"  # tasks made from the held-out text
HELD_OUT = DATA / "held-out"  # the corpus of held-out documents
COUNTS = DATA / "counts"  # how often tokens stand in sequences, for memorization
REQUESTS = DATA / "requests"  # evaluation requests, tokenized
HUB = DATA / "hub"  # what lm-eval's tasks download


def source(component: str) -> Path:
    """A component's raw text: its archive, and what its files are."""
    return DATA / "sources" / component


def documents(component: str, part: Part) -> Path:
    """The documents of one part of a component."""
    return DOCUMENTS / component / f"part-{part}"


def signatures(part: Part) -> Path:
    """MinHash signatures of a part's documents; deleted after use."""
    return DATA / "signatures" / f"part-{part}"


def pairs(group: Part) -> Path:
    """Pairs of alike documents that a group of bands finds."""
    return DATA / "pairs" / f"group-{group}"


def external(corpus: str) -> Path:
    """Token files of a corpus that somebody published, as downloaded."""
    return DATA / "external" / corpus


def corpus(name: str) -> Path:
    """A corpus: its tokens, and the table of its documents."""
    return DATA / name


def pieces(corpus: str, part: Part) -> Path:
    """The tokens of one part of a corpus; deleted once they are joined."""
    return DATA / corpus / "pieces" / f"part-{part}"


def order(corpus: str, seed: Part) -> Path:
    """The sequence order of a corpus that a data seed gives."""
    return DATA / corpus / f"order-{seed}"


# --- below checkpoints/<run>/ -------------------------------------------------------------------

RESUME = "resume"  # the rolling state a killed run resumes from
METRICS = "metrics.jsonl"  # what each step logged
HELD_OUT_LOSSES = "held_out.jsonl"  # of checkpoints
TIMING = "timing.jsonl"  # of steps and saves


def checkpoints(run: str) -> Path:
    """A run's checkpoints and logs; the manifest in it is the finished run's."""
    return CHECKPOINTS / run


def global_step(step: Part) -> str:
    """NeoX's name of a step's folder."""
    return f"global_step{step}"


def checkpoint(run: str, step: Part) -> Path:
    """A saved step."""
    return CHECKPOINTS / run / global_step(step)


def resume(run: str, step: Part) -> Path:
    """A step to resume from."""
    return CHECKPOINTS / run / RESUME / global_step(step)


def segment(run: str, number: Part) -> Path:
    """What says that a segment of a run is done; the last segment's is the run's own manifest."""
    return CHECKPOINTS / run / "segments" / f"segment-{number}"


def adopted(run: str) -> Path:
    """What a foreign checkpoint was that a run started from."""
    return CHECKPOINTS / run / "adopted"


REPLAYED = Path("replayed")  # checkpoints of steps that no schedule asks for: made again, to be dropped at will


def replayed_checkpoint(run: str, step: Part) -> Path:
    """A step that the run did not save."""
    return REPLAYED / CHECKPOINTS / run / global_step(step)


def recording(name: str, run: str) -> Path:
    """A recording of a run."""
    return RECORDINGS / name / run


def recorded(name: str, run: str, step: Part) -> Path:
    """Its tensors of one step."""
    return recording(name, run) / f"step{step}.safetensors"


def recorded_table(name: str, run: str, table: str) -> Path:
    """Its losses or statistics of all steps."""
    return recording(name, run) / f"{table}.parquet"


# --- models and exports -------------------------------------------------------------------------


def models(run: str) -> Path:
    """The models of a run."""
    return MODELS / run


def model(run: str, step: Part) -> Path:
    """A step's model."""
    return MODELS / run / f"step{step}"


def exports(run: str) -> Path:
    """The GGUF files of a run."""
    return EXPORTS / run


def exported(run: str, step: Part) -> Path:
    """A step's GGUF files."""
    return EXPORTS / run / f"step{step}"


def gguf(run: str, step: Part, quantization: str) -> Path:
    """One of them."""
    return exported(run, step) / f"{quantization}.gguf"


# --- below results/ -----------------------------------------------------------------------------

STUDY = RESULTS / "study.json"  # the study as it is run
EVALUATIONS = RESULTS / "evals"  # by run and task set
MEMORIZATION = RESULTS / "memorization"  # by run
MEASUREMENTS = RESULTS / "export"  # by run
TABLES = RESULTS / "tables"  # tidy ones, that come out alike
SCIENCE = RESULTS / "science"  # tables and figures of analyses
SCIENCE_FINDINGS = SCIENCE / "findings.json"
FIGURES = RESULTS / "figures"  # as Vega-Lite with their data, and as SVG
EXPORT_MEMORY = RESULTS / "export_memory.csv"  # measured, so not repeatable
TRAINING_SPEED = RESULTS / "training_speed.csv"  # of each run along its steps, measured
TIMINGS = RESULTS / "timings.csv"  # what each job took
FINDINGS = RESULTS / "findings.json"  # the findings in words, with their numbers
SPIKES = RESULTS / "spikes.csv"  # jumps of loss or gradient norm
LOCK = RESULTS / "suite.lock.json"  # the hash of every file
PROVENANCE = RESULTS / "provenance"  # what papers and archives ask for
SIGNATURE = RESULTS / "provenance.sig"  # made by a person
CRATE = Path("ro-crate-metadata.json")  # describes the whole folder, so it lies at its top

AUDIT = RESULTS / "audit"  # verdicts of the audit's parts
VERDICT = AUDIT / "verdict.json"  # that of all of them
INTEGRITY = AUDIT / "integrity.json"
DISTANCES = AUDIT / "distances.csv"  # between checkpoints
REPLAY = AUDIT / "replay.json"
RECENCY = AUDIT / "recency.json"  # what checkpoints know of the sequences they just saw
RECENCY_TABLE = AUDIT / "recency.csv"
SCRATCH = AUDIT / "scratch"  # where the audit's replays work


def evaluation(run: str, task_set: str, step: Part) -> Path:
    """A step's scores by a task set; .samples.parquet beside it has the items."""
    return EVALUATIONS / run / task_set / f"step{step}.json"


def memorization(run: str, step: Part) -> Path:
    """A step's memorization, sequence by sequence."""
    return MEMORIZATION / run / f"step{step}.parquet"


def measurement(run: str, step: Part) -> Path:
    """What was found about a step's GGUF files."""
    return MEASUREMENTS / run / f"step{step}.json"


def record(run: str, step: Part) -> Path:
    """What was measured on a step's GGUF files: memory, time."""
    return MEASUREMENTS / run / f"step{step}.record.json"


def zoom(run: str, step: Part) -> Path:
    """The losses of the sequences around a spike of a run."""
    return RESULTS / "zoom" / run / f"step{step}.csv"


def table(name: str, form: str = "csv") -> Path:
    """A table, as csv or parquet."""
    return TABLES / f"{name}.{form}"


def science(name: str, form: str = "csv") -> Path:
    """A table of an analysis, as csv or parquet; a figure of one that the study does not make, as json or svg."""
    return SCIENCE / f"{name}.{form}"


def figure(name: str, form: str = "json") -> Path:
    """A figure, as json or svg."""
    return FIGURES / f"{name}.{form}"


def card(run: str) -> Path:
    """A run's model card, with its figures."""
    return RESULTS / "cards" / run


def page(name: str) -> Path:
    """A page to open in a browser."""
    return RESULTS / f"{name}.html"


def replayed(name: str) -> Path:
    """What one job of a replay found."""
    return AUDIT / "replay" / f"{name}.json"


def recency(run: str) -> Path:
    """What was found of a run's recency."""
    return AUDIT / "recency" / f"{run}.json"


# ------------------------------------------------------------------------------------------------


def below(path: str, folder: Path) -> bool:
    """Whether a path's text begins with a folder."""
    return path.startswith(f"{folder}/")
