"""Score several checkpoints of one run on one task set with lm-eval, in one process."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from scripts.common import manifest
from scripts.common.errors import UserError, explain, near, run
from scripts.common.files import sha256_file
from scripts.common.progress import progress
from scripts.evaluate.names import OWN_TASKS, check_tasks
from scripts.evaluate.tasks import TASKS
from scripts.study.study import Study, load

TOKENIZER = "tokenizer.json"


def prepare(threads: int) -> None:
    """Environment that lm-eval and the libraries below it read when they are imported."""
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)  # the thread count changes the last digits of sums
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_EVALUATE_OFFLINE"):
        os.environ.setdefault(name, "1")
    os.environ["DISABLE_MULTIPROC"] = "1"  # lm-eval's bootstrap would start a process a core
    os.environ["TQDM_DISABLE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def model_folder(name: str, step: int) -> Path:
    """Where a step's model lies."""
    return Path("models") / name / f"step{step}"


def check_model(name: str, step: int) -> str:
    """Verify the files of a step's model against its manifest; returns the tokenizer's sha256."""
    path = model_folder(name, step) / manifest.NAME
    content = manifest.verify(path, "model")
    if content["subject"] != {"run": name, "step": step}:
        raise UserError(f"{path}: this manifest is of {content['subject']}, not of {name} step {step}")
    if TOKENIZER not in content["files"]:
        raise UserError(f"{path}: names no {TOKENIZER}; convert the checkpoint again")
    return str(content["files"][TOKENIZER]["sha256"])


class Evaluation:
    """One task set on one run: tasks and tokenizer loaded once, models taken in turn."""

    def __init__(self, study: Study, name: str, task_set: str) -> None:
        self.study, self.name, self.task_set = study, name, task_set
        self.asked = study.file.evaluation.task_sets[task_set]
        self.loaded: dict[str, Any] = {}
        self.scorer: Any = None
        self.tokenizer = ""
        self.made: str | None = None  # sha256 of data/tasks/manifest.json, if the set has tasks of it
        self.truncated: dict[str, int] = {}

    def start(self, folder: Path, subject: str) -> None:
        """Load the tasks, and the model and tokenizer of the first step."""
        import torch
        import transformers
        from transformers import PreTrainedTokenizerFast

        from scripts.evaluate import scorer

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(self.study.file.runtime.threads)
        if any(task in OWN_TASKS for task in self.asked.tasks):
            manifest.verify(TASKS / manifest.NAME, "tasks")
            self.made = sha256_file(TASKS / manifest.NAME)
        self.loaded = scorer.load_tasks(self.asked.tasks, TASKS, self.asked.shots)
        scorer.keep_requests(self.loaded["tasks"])
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.scorer = scorer.Scorer(self.model(folder), tokenizer, self.study.file.evaluation.batch_size)
        self.scorer.subject = subject
        self.truncated = scorer.truncated(self.scorer, self.loaded["tasks"])

    def model(self, folder: Path) -> Any:
        """The folder's model in the precision and on the device asked for."""
        from scripts.evaluate.scorer import load_model

        return load_model(folder, self.study.file.evaluation.precision, self.study.file.runtime.device)

    def take(self, step: int, subject: str) -> None:
        """Check the step's model and make it the one that is scored."""
        tokenizer, folder = check_model(self.name, step), model_folder(self.name, step)
        if self.scorer is None:
            self.start(folder, subject)
            self.tokenizer = tokenizer
            return
        if tokenizer != self.tokenizer:  # texts are tokenized once for all steps
            raise UserError(f"{folder}: its {TOKENIZER} is not the one of the run's other steps")
        self.scorer.take(None, subject)  # never two models in memory
        self.scorer.take(self.model(folder), subject)

    def evaluate(self, step: int) -> None:
        """Write the step's samples and scores; raises UserError if they are not finite numbers."""
        from scripts.evaluate import results, scorer

        subject = f"{self.name} step {step}"
        self.take(step, subject)
        found = scorer.scores(self.scorer, self.loaded)
        content = {
            "run": self.name,
            "step": step,
            "task_set": self.task_set,
            "shots": self.asked.shots,
            "model": sha256_file(model_folder(self.name, step) / manifest.NAME),
            "tasks": self.made,
            "science": self.study.evaluation_science(self.task_set),
            "results": results.task_scores(found["results"], subject),
            "n": results.item_counts(found["results"]),
            "truncated": self.truncated,
            "versions": {"lm-eval": scorer.LM_EVAL, "tasks": found["versions"]},
        }
        target = Path("results/evals") / self.name / self.task_set / f"step{step}.json"
        results.write(target, content, found["samples"])


def check(study: Study, name: str, task_set: str, steps: list[int]) -> None:
    """Refuse an unknown run, task set, step or task before anything heavy is loaded."""
    study.run(name)
    known = list(study.file.evaluation.task_sets)
    if task_set not in known:
        raise UserError(explain("--task-set", task_set, ", ".join(known), near(task_set, known)))
    study.check_steps(name, steps)
    check_tasks(study.file.evaluation.task_sets[task_set].tasks)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Score saved steps of a run on a task set with lm-eval. Tasks are loaded and their requests built "
        "once; each step's weights (models/<run>/step<N>/) are then scored with the batch size and the precision of "
        "the study's evaluation. Writes results/evals/<run>/<task set>/step<N>.samples.parquet and, last, step<N>.json."
    )
    parser.add_argument("--study", type=Path, required=True, help="study file, or results/study.json")
    parser.add_argument("--run", required=True, help="name of the run")
    parser.add_argument("--task-set", required=True, help="name of a task set of the study, e.g. zero-shot")
    parser.add_argument("--steps", type=int, nargs="+", required=True, help="saved steps to score")
    arguments = parser.parse_args()
    study = load(arguments.study)
    check(study, arguments.run, arguments.task_set, arguments.steps)
    prepare(study.file.runtime.threads)
    evaluation = Evaluation(study, arguments.run, arguments.task_set)
    with progress(f"evaluate {arguments.run} {arguments.task_set}", len(arguments.steps), "checkpoints") as tell:
        for done, step in enumerate(arguments.steps, start=1):
            evaluation.evaluate(step)
            tell(done)


if __name__ == "__main__":
    run(main)
