"""The stages that go step by step through a run, each declared once; whatever lists stages iterates over STAGES.

A stage makes one small file a step (and part, where it is done several times per step) that says what was made: a
manifest, or a result that is its own. The rule file that is read, targets, fingerprints, job counts, status, closing
counts, its table, the audit's completeness and replay follow from the declaration; a new stage is one more here, with
a package, `rules/<package>.smk` and a module of the report (docs/howto/stage.md).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from scripts.common import manifest
from scripts.study import paths
from scripts.study.study import Batch, Study

Settings = dict[str, Any]
ONCE = ("",)  # the parts of a stage that is done once a step


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    `name` begins the names of its rules, logs and benchmarks; `phase` is the target that makes it, `noun` what a
    step of it is called, in the plural. `output` is the
    pattern of {run}, {step} and, where it is done for several `parts`, {part} of the file that says what was made.
    `steps` are those of a run it is asked of, `settings` what determines a part's numbers. `replayed`: the audit
    makes drawn steps of it again, and provenance names what it makes.
    """

    name: str
    phase: str
    noun: str
    command: tuple[str, str]
    output: str
    steps: Callable[[Study, str], list[int]]
    settings: Callable[[Study, str, str], Settings]
    parts: Callable[[Study], Iterable[str]] = lambda _: ONCE
    table: str = ""
    """The table in results/tables that its outputs are gathered into, if they are: what `rows(path)` of the command's
    module gives of each."""
    figures: tuple[str, ...] = ()
    """What the report draws of it; see `all_figures` in scripts/report/findings/."""
    category: str = ""
    """That of its figures in Snakemake's report."""
    batched: bool = True
    """Whether one job goes through a batch of steps."""
    replayed: bool = True

    @property
    def package(self) -> str:
        """Its package, and its file in rules/."""
        return self.command[0].removeprefix("scripts.")

    def file(self, run: str, step: paths.Part, part: str = "") -> str:
        """Its output, below the study's folder."""
        return self.output.format(run=run, step=step, part=part)

    def files(self, study: Study) -> list[str]:
        """All that the study asks for: parts, in each runs, in each steps."""
        return [path for part in self.parts(study) for run in study.runs for path in self.of_run(study, run, part)]

    def of_run(self, study: Study, run: str, part: str = "") -> list[str]:
        """Those of a run's part."""
        return [self.file(run, step, part) for step in self.steps(study, run)]

    def of_step(self, study: Study, run: str, step: int) -> list[str]:
        """What it makes of one step, nothing if it is not asked of it."""
        asked = step in self.steps(study, run)
        return [self.file(run, step, part) for part in self.parts(study)] if asked else []

    def batches(self, study: Study) -> list[Batch]:
        """Batches of steps that one of its jobs goes through."""
        return study.batches(lambda run: self.steps(study, run))

    def log(self, run: str, part: str, label: str) -> str:
        """The name, without ending, of the log and of the benchmark of a batch's job."""
        return f"{self.name}/{run}_{part}_{label}" if part else f"{self.name}/{run}_{label}"

    def asked(self, study: Study) -> bool:
        """Whether the study asks it of any step."""
        return any(self.steps(study, run) for run in study.runs)

    @property
    def glob(self) -> str:
        """A pattern of its outputs."""
        return re.sub(r"\{\w+\}", "*", self.output)

    def match(self, path: str) -> dict[str, str] | None:
        """{run}, {step} and {part} of a path that is one of its outputs, else None."""
        return found.groupdict() if (found := PATTERNS[self.name].fullmatch(path)) else None


def _model_settings(study: Study, run: str, _: str) -> Settings:
    if run in study.external:
        return study.external_settings(run)
    return {"size": study.size_settings(run), "precision": study.run(run).training.precision}


TRAIN = Stage(
    "train",
    "train",
    "checkpoints",
    ("scripts.train", "train"),
    f"{paths.checkpoint('{run}', '{step}')}/{manifest.NAME}",
    steps=lambda study, run: study.steps(run) if run in study.trained else [],
    settings=lambda study, run, _: study.train_settings(run),
    figures=(
        "loss", "held_out_size", "held_out_component", "held_out_step", "held_out_component_step",
        "learning_rate", "gradient_norm",
    ),
    category="Learning",
    batched=False,
)  # fmt: skip
CONVERT = Stage(
    "convert",
    "convert",
    "models",
    ("scripts.convert", "convert"),
    f"{paths.model('{run}', '{step}')}/{manifest.NAME}",
    steps=Study.steps,
    settings=_model_settings,
)
GGUF = Stage(
    "gguf",
    "export",
    "GGUF files",
    ("scripts.export", "write"),
    f"{paths.exported('{run}', '{step}')}/{manifest.NAME}",
    steps=Study.export_steps,
    settings=lambda study, *_: study.gguf_settings(),
    replayed=False,
)
MEASURE = Stage(
    "measure",
    "export",
    "measurements",
    ("scripts.export", "measure"),
    str(paths.measurement("{run}", "{step}")),
    steps=Study.export_steps,
    settings=lambda study, run, _: study.export_settings(run),
    replayed=False,
)
EVALUATE = Stage(
    "evaluate",
    "evaluate",
    "evaluations",
    ("scripts.evaluate", "evaluate"),
    str(paths.evaluation("{run}", "{part}", "{step}")),
    steps=Study.evaluation_steps,
    settings=lambda study, _, part: study.evaluation_settings(part),
    parts=lambda study: study.file.evaluation.task_sets,
    table="evals",
    figures=("evals", "evals_size", "evals_heat"),
    category="Evaluation",
)
MEMORIZE = Stage(
    "memorize",
    "memorize",
    "memorization scorings",
    ("scripts.memorize", "score"),
    str(paths.memorization("{run}", "{step}")),
    steps=Study.memorization_steps,
    settings=lambda study, *_: study.memorization_settings(),
    table="memorization",
    figures=(
        "memorization_step", "memorization_size", "memorization_canaries", "memorization_groups",
        "memorization_predict",
        "memorization_correlation", "memorization_histogram", "memorization_order", "memorization_seen",
    ),
    category="Memorization",
)  # fmt: skip
STAGES = (TRAIN, CONVERT, GGUF, MEASURE, EVALUATE, MEMORIZE)
OF_MODELS = (GGUF, MEASURE, EVALUATE, MEMORIZE)
OF_EVERY_RUN = tuple(stage for stage in STAGES if stage.phase != "export")  # the others are asked of some runs only
NEEDS_NO_MODEL = ("data", "train", "deduplicate")  # phases
NO_MODELS = (paths.DATA, paths.CHECKPOINTS, paths.REPLAYED)  # folders
ASKED = "CASTALIA_STEPS"  # environment variable
PHASES = ("all", "deduplicate", "data", *dict.fromkeys(stage.phase for stage in STAGES), "analyze", "report")


def pattern(path: str) -> re.Pattern[str]:
    """What a path with {names} in it matches; a step's and a seed's are numbers, as is what a * stands for."""

    def group(found: re.Match[str]) -> str:
        kind = r"\d+" if found[1] in ("step", "seed") else "[^/]+"
        return f"(?P<{found[1]}>{kind})"

    return re.compile(re.sub(r"\\\{(\w+)\\\}", group, re.escape(path)).replace(r"\*", r"\d+"))


PATTERNS = {stage.name: pattern(stage.output) for stage in STAGES}


def at(path: str) -> tuple[Stage, dict[str, str]] | None:
    """The stage that a path is an output of, with its {run}, {step} and {part}; None if it is none's."""
    return next(((stage, names) for stage in STAGES if (names := stage.match(path)) is not None), None)


def of_step(study: Study, run: str, step: int) -> Iterator[str]:
    """The model of a saved step, and what the study asks to be made of it, of stages that are replayed."""
    for stage in (CONVERT, *OF_MODELS):
        if stage.replayed:
            yield from stage.of_step(study, run, step)


def steps_asked(names: Iterable[str]) -> dict[str, list[int]] | None:
    """Steps by run, if files of single steps are asked for, by path from the study's folder, and no more of models:
    the others of a batch are then nobody's wish. None: all."""
    asked: dict[str, list[int]] = {}
    for path in map(os.path.normpath, names):
        found = at(re.sub(r"\.record\.json$", ".json", path))
        if found and found[0] is not TRAIN:
            asked.setdefault(found[1]["run"], []).append(int(found[1]["step"]))
        elif path not in NEEDS_NO_MODEL and not any(paths.below(path, folder) for folder in NO_MODELS):
            return None
    return asked or None


def inherited(names: Iterable[str] | None) -> dict[str, list[int]] | None:
    """The steps asked for by these targets, left in the environment for the Snakemake of each job, which is given no
    targets (None) and finds them there."""
    if names is not None:
        os.environ[ASKED] = json.dumps(steps_asked(names))
    found: dict[str, list[int]] | None = json.loads(os.environ.get(ASKED, "null"))
    return found


def alone(batches: Iterable[Batch], asked: dict[str, list[int]]) -> list[Batch]:
    """What is asked for of each batch, by run. It keeps the label, so that log and benchmark are the batch's; runs of
    which other steps are asked get one of their own."""
    found = []
    for batch in batches:
        alike: dict[tuple[int, ...], list[str]] = {}
        for run in batch.runs:
            steps = tuple(step for step in batch.steps if step in asked.get(run, []))
            if steps:
                alike.setdefault(steps, []).append(run)
        for number, (steps, runs) in enumerate(alike.items()):
            found.append(Batch(runs, list(steps), batch.label + (f"_asked{number}" if number else "")))
    return found
