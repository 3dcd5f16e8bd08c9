# Batches of checkpoints: a step stays a target of its own, a process handles the batch.
from snakemake.cli import get_argument_parser

from scripts.study.stages import alone, inherited

# What single steps are asked for by path. Snakemake tells the targets only after it has read the rules, so they are taken
# from its command line; the Snakemake of a job, which is given none, is told by its parent.
asked = None
if workflow.is_main_process:
    maybe = any("step" in word for word in sys.argv)  # Snakemake's own parser takes 0.4 s
    asked = get_argument_parser().parse_known_args(sys.argv[1:])[0].targets if maybe else []
STEPS_ASKED = inherited(asked)


def batches(stage):
    """Batches of checkpoints, of the steps alone that are asked for by path, if such are."""
    whole = stage.batches(STUDY)
    return whole if STEPS_ASKED is None else alone(whole, STEPS_ASKED)


def model_batches(runs):
    """Batches of saved steps of some of these runs: Snakemake holds each file against each rule that there is."""
    return [batch for batch in batches(CONVERT) if set(runs) & set(batch.runs)]


def outputs(stage, batch):
    """What a stage makes of a batch's steps, by run and, where there are several, task set."""
    return [stage.file("{run}", step, "{task_set}") for step in batch.steps]


def among(runs, batch):
    """The runs of a batch that are among these, as a wildcard's constraint."""
    return any_of(run for run in batch.runs if run in runs)
