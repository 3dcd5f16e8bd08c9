"""Score several checkpoints of one run on one task set with lm-eval, in one process."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError, explain, near
from scripts.common.files import sha256_file
from scripts.common.progress import progress
from scripts.evaluate import cache, finished
from scripts.evaluate.names import OWN_TASKS, check_tasks, task_hashes
from scripts.study import fingerprints, paths, replayed
from scripts.study.manifests import ModelFacts, TasksFacts
from scripts.study.study import Study, load

TOKENIZER = "tokenizer.json"


def prepare(threads: int) -> None:
    """Environment that lm-eval and the libraries below it read when they are imported."""
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)  # the thread count changes the last digits of sums
    cache.use(offline=True)
    os.environ["DISABLE_MULTIPROC"] = "1"  # lm-eval's bootstrap would start a process per core
    os.environ["TQDM_DISABLE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def check_model(name: str, step: int) -> str:
    """Verify the files of a step's model against its manifest; returns the tokenizer's sha256."""
    folder = paths.model(name, step)
    files = manifest.verify(folder, ModelFacts, {"run": name, "step": step}).files
    if TOKENIZER not in files:
        raise UserError(f"{folder / manifest.NAME}: names no {TOKENIZER}; convert the checkpoint again")
    return files[TOKENIZER].sha256


class Evaluation:
    """One task set on one run: tasks, requests and model made once, weights taken in turn."""

    def __init__(self, study: Study, name: str, task_set: str) -> None:
        self.study, self.name, self.task_set = study, name, task_set
        self.asked = study.file.evaluation.task_sets[task_set]
        self.loaded: dict[str, Any] = {}
        self.scorer: Any = None
        self.tokenizer = ""
        self.shape: dict[str, Any] = {}
        self.made: str | None = None  # sha256 of data/tasks/manifest.json, if the set has tasks of it
        self.truncated: dict[str, int] = {}

    def target(self, step: int) -> Path:
        """The step's JSON."""
        return paths.evaluation(self.name, self.task_set, step)

    def known(self, step: int) -> dict[str, Any]:
        """The entries of the step's JSON that are known before it is scored; raises UserError without a model."""
        model = paths.model(self.name, step)
        manifest.read(model, ModelFacts)
        fingerprints.require(self.study, model)
        return {
            "run": self.name,
            "step": step,
            "task_set": self.task_set,
            "shots": self.asked.shots,
            "model": sha256_file(model / manifest.NAME),
            "tasks": self.made,
            "task_files": task_hashes(self.asked.include_path),
            "settings": self.study.evaluation_settings(self.task_set),
        }

    def check_own_tasks(self) -> None:
        """Verify the study's own tasks, if the set has any."""
        if any(task in OWN_TASKS for task in self.asked.tasks):
            manifest.verify(paths.TASKS, TasksFacts)
            fingerprints.require(self.study, paths.TASKS)
            self.made = sha256_file(paths.TASKS / manifest.NAME)

    def start(self, folder: Path, tokenizer_hash: str, subject: str) -> None:
        """Load the tasks, the first step's model and tokenizer; build and tokenize the requests."""
        import torch
        import transformers
        from transformers import PreTrainedTokenizerFast

        from scripts.evaluate import loading, requests, scorer, weights

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(self.study.file.runtime.threads)
        self.loaded = loading.load_tasks(self.asked, paths.TASKS)
        file = self.study.file
        model = weights.load_model(folder, file.evaluation.precision, file.runtime.device)
        self.scorer = scorer.Scorer(model, PreTrainedTokenizerFast.from_pretrained(folder), file.evaluation.batch_size)
        self.scorer.subject = subject
        self.tokenizer, self.shape = tokenizer_hash, weights.shape(folder)
        own = task_hashes(self.asked.include_path)
        key = requests.key_of(self.loaded["tasks"], tokenizer_hash, scorer.LM_EVAL, loading.FEW_SHOT_SEED, own)
        requests.prepare(self.scorer, self.loaded["tasks"], key)
        self.truncated = scorer.truncated(self.scorer, self.loaded["tasks"])
        scorer.settle()

    def take(self, step: int, subject: str) -> None:
        """Check the step's model and score its weights from now on."""
        tokenizer, folder = check_model(self.name, step), paths.model(self.name, step)
        if self.scorer is None:
            self.start(folder, tokenizer, subject)
            return
        from scripts.evaluate import weights

        if tokenizer != self.tokenizer:  # texts are tokenized once for all steps
            raise UserError(f"{folder}: its {TOKENIZER} is not the one of the run's other steps")
        if differing := manifest.differing(self.shape, weights.shape(folder)):
            raise UserError(f"{folder}: its config.json is not that of the run's other steps: {', '.join(differing)}")
        self.scorer.take(folder, subject)

    def evaluate(self, step: int) -> None:
        """Write the step's samples and scores; raises UserError if they are not finite numbers."""
        from scripts.evaluate import results, scorer

        subject = f"{self.name} step {step}"
        self.take(step, subject)
        found = scorer.scores(self.scorer, self.loaded)
        choosing = results.with_choices(self.loaded["tasks"])
        answers = results.answer_rows(found["samples"], choosing)
        items = results.item_rows(found["samples"]) + answers + results.choice_rows(found["samples"], choosing)
        content = {
            **self.known(step),
            "results": results.task_scores(found["results"], subject),
            "n": results.item_counts(found["results"]),
            "truncated": self.truncated,
            "commonest_answer": results.commonest(answers, results.with_places(found["samples"])),
            "vocabulary": {"tokens": len(self.scorer.tokenizer), "rows": self.scorer.model.config.vocab_size},
            "versions": {"lm-eval": scorer.LM_EVAL, "tasks": found["versions"]},
        }
        results.write(self.target(step), content, items)
        finished.keep(self.target(step))

    def evaluate_all(self, steps: list[int], tell: Callable[[int], None]) -> int:
        """Score the steps that are not yet scored; returns how many that were."""
        self.check_own_tasks()
        scored = 0
        for done, step in enumerate(steps, start=1):
            if not finished.is_done(self.target(step), self.known(step), metadata.version("lm-eval")):
                self.evaluate(step)
                scored += 1
            tell(done)
        finished.forget([self.target(step) for step in steps])
        return scored


def check(study: Study, name: str, task_set: str, steps: list[int]) -> None:
    """Refuse an unknown run, task set, step or task before anything heavy is loaded."""
    study.run(name)
    known = list(study.file.evaluation.task_sets)
    if task_set not in known:
        raise UserError(explain("--task-set", task_set, ", ".join(known), near(task_set, known)))
    replayed.check_steps(study, name, steps)
    asked = study.file.evaluation.task_sets[task_set]
    check_tasks(asked.tasks, asked.include_path)


def main() -> None:
    parser = Parser(
        description="Score saved steps of a run on a task set with lm-eval. Tasks are loaded and their requests built "
        "once; each step's weights (models/<run>/step<N>/) are then scored with the batch size and the precision of "
        "the study's evaluation. A step that is scored already is not scored again. "
        "Writes results/evals/<run>/<task set>/step<N>.samples.parquet and, last, step<N>.json."
    ).takes("study", "run")
    parser.add_argument("--task-set", required=True, help="name of a task set of the study, e.g. zero-shot")
    parser.add_argument("--steps", type=int, nargs="+", required=True, help="saved steps to score")
    arguments = parser.parse_args()
    study = load(arguments.study)
    check(study, arguments.run, arguments.task_set, arguments.steps)
    prepare(study.file.runtime.threads)
    evaluation = Evaluation(study, arguments.run, arguments.task_set)
    with progress(f"evaluate {arguments.run} {arguments.task_set}", len(arguments.steps), "checkpoints") as tell:
        scored = evaluation.evaluate_all(arguments.steps, tell)
    print(f"{scored} of {len(arguments.steps)} steps scored, the others were")
