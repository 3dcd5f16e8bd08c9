"""What a guesser scores on the tasks of this project and of Pythia's evaluation, and which metric speaks for a task."""

from __future__ import annotations

ACCURACIES = ("acc", "acc_norm", "acc_mutual_info")
FRACTIONS = (*ACCURACIES, "exact_match")  # metrics that are a fraction of items
LOWER_IS_BETTER = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")
SPEAKING = ("acc_mutual_info", "acc", "exact_match", "bits_per_byte", "word_perplexity", "perplexity", "pct_stereotype")

ONE_ANSWER = 0.95  # fraction of items with the same answer from which a model counts as giving one answer to all

# 1 / number of choices; ARC has a few items with three or five, which moves it by less than 0.001
CHANCE = {
    "castalia_agreement": 0.5,
    "castalia_continuation": 0.25,
    "castalia_pronouns": 0.5,
    "arc_challenge": 0.25,
    "arc_easy": 0.25,
    "hellaswag": 0.25,
    "logiqa": 0.25,
    "openbookqa": 0.25,
    "piqa": 0.5,
    "sciq": 0.25,
    "winogrande": 0.5,
    "wsc": 0.5,
    "wsc273": 0.5,
}
CHANCE_OF_FAMILY = {"blimp": 0.5, "mmlu": 0.25, "hendrycksTest": 0.25}
OPEN_FAMILIES = ("castalia_last_word", "castalia_arithmetic", "lambada")  # any word may be the answer


def chance(task: str, metric: str) -> float | None:
    """Accuracy of a guesser, or None for open answers (LAMBADA, last word) and metrics that are no accuracy."""
    if metric not in ACCURACIES:
        return None
    if task in CHANCE:
        return CHANCE[task]
    return CHANCE_OF_FAMILY.get(task.partition("_")[0].partition("-")[0])


def open_answers(task: str, metric: str) -> bool:
    """Whether the answer is not one of a few, so that a guesser gets next to nothing."""
    return metric == "exact_match" or (metric in ACCURACIES and task.startswith(OPEN_FAMILIES))


def speaking_metric(metrics: list[str]) -> str:
    """The one metric of a task that figures and findings show; the first by name if none is well known."""
    return next((name for name in SPEAKING if name in metrics), min(metrics))
