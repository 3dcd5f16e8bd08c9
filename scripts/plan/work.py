"""Floating-point operations of a run by stage: training, held-out loss, evaluation, memorization, export, what the
audit makes again, and sequences just seen.

Scoring is forward passes, 2 operations a parameter and token (scripts/study/runs.py). Tokens are counted where the
study file tells them; what it doesn't tell is named, not guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import log

from scripts.evaluate import passages
from scripts.evaluate.agreement import agreement_items
from scripts.evaluate.names import AGREEMENT, ARITHMETIC, CONTINUATION, LAST_WORD, PERPLEXITY, PRONOUNS
from scripts.evaluate.pronouns import pronoun_items
from scripts.study import sampling
from scripts.study.runs import flops_per_token, forward_flops_per_token
from scripts.study.sampling import LEAST_CHECKPOINTS, Drawn, windows
from scripts.study.study import Study

# Characters per token by vocabulary: the smoke and the default study's tasks as tokenized; the Pile's 1,254 GiB per
# epoch (Gao et al. 2020, table 1) over the 332 billion tokens of its published tokenization.
CHARACTERS_A_TOKEN = {512: 2.0, 2048: 2.7, 50277: 4.0}
# values an item in the samples
METRICS = {LAST_WORD: 2, CONTINUATION: 13, AGREEMENT: 7, PERPLEXITY: 3, PRONOUNS: 7, ARITHMETIC: 2}
PROBLEM = 32  # characters of one of arithmetic and its answer, at their longest


@dataclass(frozen=True)
class Work:
    """FLOPs of one run; None: the study file doesn't tell, or only for tasks that are not its own."""

    training: int
    held_out: int | None
    evaluation: int | None
    memorization: int
    export: int
    replay: int
    recency: int


def work(study: Study, name: str, drawn: Drawn | None = None) -> Work:
    """All stages of a run; `drawn` is what the audit draws of the study, if it is known already."""
    spec, vocabulary, drawn = study.run(name), study.padded_vocabulary(name), drawn or sampling.everything(study)
    per_token = flops_per_token(spec, vocabulary)

    def forward(requests: list[tuple[float, float]], times: int = 1) -> int:
        """FLOPs of (number, tokens each) requests on so many checkpoints."""
        return round(times * sum(n * t * forward_flops_per_token(spec.size, vocabulary, round(t)) for n, t in requests))

    fed = study.file.memorization.prompt + study.file.memorization.continuation - 1
    probed = min(study.file.memorization.log_probabilities, study.file.memorization.sample_sequences)
    memorized = {
        step: forward([(scored_sequences(study, name, step) + probed, fed)]) for step in study.memorization_steps(name)
    }
    held_out, own, length = held_out_tokens(study), own_requests(study), spec.training.sequence_length
    scored = set(study.evaluation_steps(name))
    per_step = per_token * spec.training.batch_size * length
    again = [point.step for point in drawn.models if point.run == name]
    trained_steps = 0 if spec.external else len(study.steps(name))
    return Work(
        training=per_step * spec.steps_trained,
        held_out=forward([(held_out / length, length)], trained_steps) if held_out else None,
        evaluation=forward(own, len(scored)) if own else None,
        memorization=sum(memorized.values()),
        export=forward([(exported_sequences(study, name), length)]),
        replay=per_step * sum(segment.end - segment.begin for segment in drawn.segments if segment.run == name)
        + forward(own, len(scored & set(again)))
        + sum(memorized.get(step, 0) for step in again),
        recency=forward([(shown_sequences(study, name), length)]) if name in drawn.recency_runs else 0,
    )


def scored_sequences(study: Study, name: str, step: int | None = None) -> int:
    """Sequences scored for memorization at a step, or at the last: the chosen ones, if as many repeat as may be chosen,
    and with memorization.sequences "all" the others that the checkpoint has seen."""
    asked, spec = study.file.memorization, study.run(name)
    texts = study.file.data.components
    canaries = sum(
        len(text.counts) * text.strings
        for each in study.canary_components(spec.corpus)
        if (text := texts[each].canaries)
    )
    chosen = min(asked.sample_sequences, spec.sequences) + asked.repeated_sequences
    if asked.sequences != "all":
        return chosen + canaries
    seen = 1.0 if step is None else min(1.0, step * spec.training.batch_size / spec.sequences)
    return min(chosen, spec.sequences) + round(max(0, spec.sequences - chosen) * seen) + canaries


def exported_sequences(study: Study, name: str) -> int:
    """Held-out sequences that the exported models of a run are shown, by Transformers and from each file."""
    if (asked := study.file.export) is None:
        return 0
    return len(study.export_steps(name)) * asked.held_out_sequences * (1 + len(asked.quantizations))


def shown_sequences(study: Study, name: str) -> int:
    """Sequences that checkpoints of a run are shown, of all of them together: each sees what each of them just saw."""
    spec, steps = study.run(name), sampling.recency_steps(study, name)
    if len(steps) < LEAST_CHECKPOINTS:
        return 0
    bounds = windows(steps, spec.first_step, spec.training.batch_size, study.file.audit.recency.sequences)
    return len(steps) * sum(end - begin for begin, end in bounds)


def own_requests(study: Study) -> list[tuple[float, float]]:
    """Number and tokens of the requests of the study's own tasks for one checkpoint, at their longest."""
    evaluation, found = study.file.evaluation, []
    characters = characters_a_token(study.file.data.tokenizer.vocabulary)
    for chosen in evaluation.task_sets.values():
        for task in chosen.tasks:
            if task in REQUESTS:
                found += REQUESTS[task](evaluation.own_tasks.items, evaluation.own_tasks.seed, chosen.shots)
    return [(number, length / characters) for number, length in found]


def own_samples(study: Study) -> int:
    """Items and metrics of the own tasks that one checkpoint's evaluation writes, all task sets."""
    evaluation = study.file.evaluation
    tasks = [task for chosen in evaluation.task_sets.values() for task in chosen.tasks]
    return evaluation.own_tasks.items * sum(METRICS.get(task, 0) for task in tasks)


Requests = list[tuple[int, float]]


def _last_word(items: int, _: int, shots: int) -> Requests:
    return [(items, passages.LAST_WORD_CHARACTERS * (1 + shots))]


def _continuation(items: int, _: int, shots: int) -> Requests:
    """A choice with its context, and alone for acc_mutual_info."""
    alone = passages.CONTINUATION_CHARACTERS
    whole = (passages.CONTEXT_CHARACTERS + alone) * (1 + shots)
    return [(items * passages.CHOICES, whole), (items * passages.CHOICES, alone)]


def _agreement(items: int, seed: int, _: int) -> Requests:
    choices = [choice for item in agreement_items(items, seed) for choice in item["choices"]]
    return [(len(choices), sum(map(len, choices)) / len(choices))]


def _pronouns(items: int, seed: int, _: int) -> Requests:
    asked = [item["question"] + choice for item in pronoun_items(items, seed) for choice in item["choices"]]
    return [(len(asked), sum(map(len, asked)) / len(asked))]


def _perplexity(items: int, _: int, __: int) -> Requests:
    return [(items, passages.PERPLEXITY_CHARACTERS)]


def _arithmetic(items: int, _: int, shots: int) -> Requests:
    return [(items, PROBLEM * (1 + shots))]


REQUESTS: dict[str, Callable[[int, int, int], Requests]] = {  # number and characters
    LAST_WORD: _last_word,
    CONTINUATION: _continuation,
    AGREEMENT: _agreement,
    PERPLEXITY: _perplexity,
    PRONOUNS: _pronouns,
    ARITHMETIC: _arithmetic,
}


def held_out_tokens(study: Study) -> float:
    """Tokens of the held-out text, of components whose characters the study file tells; 0 if of none."""
    data = study.file.data
    characters = sum(
        (text.take_characters or 0) * (1 if text.held_out else data.held_out_fraction)
        for text in data.components.values()
    )
    return characters / characters_a_token(data.tokenizer.vocabulary)


def characters_a_token(vocabulary: int) -> float:
    """Characters per token, on lines between the known vocabularies over the logarithm, flat beyond them."""
    known = sorted(CHARACTERS_A_TOKEN.items())
    for (small, low), (large, high) in pairwise(known):
        if vocabulary <= large:
            fraction = max(0.0, log(vocabulary / small) / log(large / small))
            return low + fraction * (high - low)
    return known[-1][1]


def foreign_tasks(study: Study, task_set: str) -> list[str]:
    """Tasks of a set that are lm-eval's own."""
    return [task for task in study.file.evaluation.task_sets[task_set].tasks if task not in REQUESTS]


def not_counted(study: Study) -> list[str]:
    """What the study will do and this arithmetic leaves out, by name."""
    missing = []
    for name in study.file.evaluation.task_sets:
        if foreign := foreign_tasks(study, name):
            missing.append(f"evaluation on lm-eval's own tasks, whose length no file here tells ({name}): "
                           f"{', '.join(foreign)}")  # fmt: skip
    data = study.file.data
    unknown = [name for name, text in data.components.items() if not text.take_characters and not text.planted]
    unknown = [name for name in unknown if data.held_out_fraction or data.components[name].held_out]
    if unknown:
        missing.append(f"held-out loss on texts of unknown length (no take_characters): {', '.join(unknown)}")
    return missing
