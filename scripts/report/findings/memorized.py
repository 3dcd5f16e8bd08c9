"""Findings of the analyses of memorization: prediction, training order, canaries, scaling."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from scripts.report.findings.finding import Finding, greater, listed, percent
from scripts.report.results import Results, named, records

LOW_P = 0.05


def all_findings(results: Results) -> list[Finding]:
    """Every finding of this module; none where the analyses were not made."""
    if not results.analyses:
        return []
    found = [small_predicts_large(results), early_predicts_final(results), training_order(results), scaling(results)]
    groups = results.analyses["groups"]
    return [*found, canaries(results)] if (groups["by"] == "canary").any() else found


def small_predicts_large(results: Results) -> Finding:
    """Sequences that the smallest size has memorized at the end, against those of the largest, runs pooled."""
    expectation = "What a small model has memorized, a large one has too (precision), but much more besides (recall)."
    table = results.analyses["pairs"]
    small, large = results.sizes[0], results.sizes[-1]
    ends = [set(results.runs.loc[results.runs["size"] == size, "run"]) for size in (small, large)]
    chosen = table[(table["kind"] == "size") & table["predictor"].isin(ends[0]) & table["target"].isin(ends[1])]
    told, numbers = _pooled(chosen)
    if numbers:
        text = f"Of the sequences that {small} has memorized at the end, {large} has {told}."
    elif chosen.empty:
        text = "No run of the smallest size shares its sequences and seeds with one of the largest."
    else:
        nothing = small if not chosen["predicted"].sum() else large
        text = (
            f"{nothing} has memorized none of the sequences that {small} and {large} share, so neither predicts "
            "the other."
        )
    return Finding("small_predicts_large", text, numbers, expectation, _predicts(numbers))


def early_predicts_final(results: Results) -> Finding:
    """Memorized sequences at the middle one of a run's compared checkpoints, against the last, runs pooled.

    Of sequences that both have seen.
    """
    expectation = "What is memorized early stays memorized (precision), but late training adds much (recall)."
    table = results.analyses["pairs"]
    table = table[(table["kind"] == "step") & table["predictor"].isin(set(results.runs["run"]))]
    text = "No checkpoint before the last has seen a scored sequence."
    if not table.empty:
        text = "No sequence is memorized both before the last checkpoint and at it, so nothing is predicted."
    numbers: dict[str, float | int] = {}
    steps = sorted(set(table.loc[table["both"] > 0, "predictor_step"]))
    if steps:
        middle = int(steps[len(steps) // 2])
        told, numbers = _pooled(table[table["predictor_step"] == middle])
        text = (
            f"Of the sequences that were memorized at step {middle}, the last step has {told}; of sequences that both "
            "have seen."
        )
        numbers["step"] = middle
    return Finding("early_predicts_final", text, numbers, expectation, _predicts(numbers))


def training_order(results: Results) -> Finding:
    """Memorized sequences by window of training against sequences that come independently, duplicates left out."""
    expectation = (
        "Memorized sequences come as a Poisson process in training order: where a sequence stood matters little."
    )
    table = results.analyses["order"]
    table = table[table["run"].isin(set(results.runs["run"])) & (table["duplicates"] == "excluded")].dropna()
    if table.empty:
        text = "No run has memorized sequences without duplicates in enough windows to test their order."
        return Finding("training_order_is_poisson", text, expectation=expectation)
    lowest = 3 * table[["dispersion_p", "ks_p", "lag_p"]].min(axis=1)  # of three tests
    against, alone = int((lowest < LOW_P / len(table)).sum()), int((lowest < LOW_P).sum())
    spread, told = table["dispersion"], f"{against} of {len(table)} runs at 5% over all tests"
    told += f", for {alone} at 5% over those of a run" if alone > against else ""
    text = (
        f"Without duplicates, variance over mean of memorized sequences per window of {_rows_a_window(table)} "
        f"sequences is {spread.min():.2f} to {spread.max():.2f} (1 of a Poisson process), with "
        f"{table['mean'].mean():.2g} such sequences per window in the mean; dispersion, bootstrapped KS or lag reject "
        f"independent sequences for {told}."
    )
    few = table["mean"].mean() * table["windows"].mean() < 20
    holds = (
        False if against else (None if few or alone else True)
    )  # sizes share their sequences: one run alone may be right
    return Finding("training_order_is_poisson", text, {"runs": records(table)}, expectation, holds)


def _rows_a_window(table: pd.DataFrame) -> str:
    return " or ".join(str(rows) for rows in sorted(set(table["window_sequences"].astype(int))))


def canaries(results: Results) -> Finding:
    """Dose and response over all runs on a corpus that keeps duplicates, and on its deduplicated form.

    Runs are scored on the same strings, so they count as one: what a string is like is drawn once for all.
    """
    expectation = "The oftener a canary stands in the corpus, the oftener it is memorized."
    data = named(results, "groups")
    data = data[data["by"] == "canary"].assign(count=lambda frame: frame["group"].astype(int))
    told, numbers, holds = [], {}, None
    for corpus in results.corpus_names:
        of_corpus = data[data["corpus"] == corpus]
        sums = of_corpus.groupby("count")[["sequences", "memorized"]].sum()
        if sums.empty:
            continue
        fractions = (sums["memorized"] / sums["sequences"]).to_dict()
        numbers[corpus] = {str(count): fraction for count, fraction in fractions.items()}
        told.append(
            f"{corpus}: " + ", ".join(f"{percent(fraction)} of {count}x" for count, fraction in fractions.items())
        )
        if corpus == results.main_corpus and len(sums) > 1:
            holds = rises(sums / of_corpus["run"].nunique())  # undecided where none is memorized
    text = f"Canaries memorized at the end, by how often they were planted, runs pooled: {'; '.join(told)}."
    return Finding("canaries", text, numbers, expectation, holds)


def rises(sums: pd.DataFrame) -> bool | None:
    """`greater` for the trend of memorized fractions over the logarithm of how often (Cochran and Armitage).

    `sums`: sequences and memorized ones (not whole numbers where runs were averaged), by count.
    """
    rows, fraction = sums["sequences"].to_numpy(float), sums["memorized"].sum() / sums["sequences"].sum()
    dose = np.log2(sums.index.to_numpy(float))
    dose -= (dose * rows).sum() / rows.sum()
    stderr = float(np.sqrt(fraction * (1 - fraction) * (rows * dose**2).sum()))
    slope = float((dose * sums["memorized"].to_numpy(float)).sum())
    return greater(slope, stderr) if stderr else None  # where all or none are memorized, only rounding is left


def scaling(results: Results) -> Finding:
    """Slopes of the log-odds of being memorized, with intervals."""
    table = results.analyses["fits"]
    slopes = records(table[table["term"] == "slope"])
    if not slopes:
        return Finding(
            "memorization_scaling", "Too few sequences are memorized to fit their fraction against size or tokens."
        )
    told = [
        f"{row['estimate']:.2f} ({row['lowest']:.2f} to {row['highest']:.2f}) for ten times the {row['in']} "
        f"on {row['corpus']}"
        for row in slopes
    ]
    text = (
        f"Log-odds of a sampled sequence being memorized change by {listed(told)}; intervals of a bootstrap over "
        "sequences, 95%."
    )
    return Finding("memorization_scaling", text, {"slopes": slopes})


def rates(table: pd.DataFrame) -> dict[str, float | int]:
    """Precision and recall of all pairs together, and `base`: the precision of sequences taken at random."""
    sums = table[["sequences", "predicted", "memorized", "both"]].sum()
    return {
        "predicted": int(sums["predicted"]),
        "memorized": int(sums["memorized"]),
        "both": int(sums["both"]),
        "precision": float(sums["both"] / sums["predicted"]),
        "recall": float(sums["both"] / sums["memorized"]),
        "base": float(sums["memorized"] / sums["sequences"]),
    }


def _pooled(table: pd.DataFrame) -> tuple[str, dict[str, float | int]]:
    if table.empty or not table["predicted"].sum() or not table["memorized"].sum():
        return "", {}
    found = rates(table)
    of_all = f"they are {percent(found['recall'])} of all that it has (recall)"
    base = f"as against {percent(found['base'])} of all sequences"
    return f"{percent(found['precision'])} too (precision), {base}, and {of_all}", found


def _predicts(numbers: dict[str, float | int]) -> bool | None:
    """Whether most of what is predicted comes true, and what is true is much more: at least twice as much.

    Precision above recall alone would only say that the predicting checkpoint has memorized fewer sequences; that most
    was not predicted is what "much more" says. None where the numbers don't tell one of the two.
    """
    if not numbers:
        return None
    one, two = numbers["precision"], numbers["recall"]
    of_one, of_two = one * (1 - one) / numbers["predicted"], two * (1 - two) / numbers["memorized"]
    most, much = greater(one - 0.5, math.sqrt(of_one)), greater(0.5 - two, math.sqrt(of_two))
    return False if most is False or much is False else (True if most and much else None)
