# Batches of checkpoints: a step stays a target of its own, a process handles the batch.
from snakemake.cli import get_argument_parser

from scripts.study import replayed
from scripts.study.inventory import Inventory
from scripts.study.stages import alone, inherited

# What single steps are asked for by path. Snakemake tells the targets only after it has read the rules, so they are taken
# from its command line; the Snakemake of a job, which is given none, is told by its parent.
asked = None
if workflow.is_main_process:
    maybe = any("step" in word for word in sys.argv)  # Snakemake's own parser takes 0.4 s
    asked = get_argument_parser().parse_known_args(sys.argv[1:])[0].targets if maybe else []
STEPS_ASKED = inherited(asked)

# Steps that no run saved are rules only where they are asked for, by path or by a schedule that has grown since.
ADDED = replayed.added(STUDY)
try:
    UNSCHEDULED = replayed.unscheduled(STUDY, STEPS_ASKED or {})
    STRETCHES = replayed.inherited(replayed.asked_for(STUDY, asked, Inventory()) if asked is not None else None)
except UserError as error:
    sys.exit(f"error in a target:\n{error}")
ADDED_FILES = [TRAIN.file(run, step) for run, steps in ADDED.items() for step in steps]
CHECKPOINTS += ADDED_FILES


def batches(stage):
    """Batches of checkpoints, of the steps alone that are asked for by path, if such are."""
    whole = stage.batches(STUDY)
    if STEPS_ASKED is None:
        return whole
    return [*alone(whole, STEPS_ASKED), *(replayed.batches(STUDY, UNSCHEDULED) if stage.replayed else [])]


def added(wildcards):
    """Checkpoints of a run's schedule that the run itself did not save."""
    return [TRAIN.file(wildcards.run, step) for step in ADDED.get(wildcards.run, [])]


def made_again(wildcards, batch):
    """What a batch of steps is converted from beside its run: checkpoints of steps that the run did not save."""
    steps = set(batch.steps) & {*ADDED.get(wildcards.run, []), *UNSCHEDULED.get(wildcards.run, [])}
    return [f"{replayed.target(STUDY, wildcards.run, step)}/manifest.json" for step in sorted(steps)]


def model_batches(runs):
    """Batches of saved steps of some of these runs: Snakemake holds each file against each rule that there is."""
    return [batch for batch in batches(CONVERT) if set(runs) & set(batch.runs)]


def outputs(stage, batch):
    """What a stage makes of a batch's steps, by run and, where there are several, task set."""
    return [stage.file("{run}", step, "{task_set}") for step in batch.steps]


def among(runs, batch):
    """The runs of a batch that are among these, as a wildcard's constraint."""
    return any_of(run for run in batch.runs if run in runs)
