"""Findings about memorization: size, training step, repetition, deduplication.

Shares are of rows the checkpoint has seen, pooled over seeds; a difference counts from two standard
errors of a difference of shares on.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from scripts.report.finding import Finding, listed, percent, shares_differ
from scripts.report.results import Results

NOT_SCORED = "Memorization was not scored on rows that a checkpoint had seen."
ENOUGH_ROWS = 30


def all_memorization(results: Results) -> list[Finding]:
    """Every finding of this module."""
    first = [memorization_and_size(results), memorization_and_training(results), seen_and_unseen(results)]
    return [*first, memorization_and_repetition(results), memorization_and_deduplication(results)]


def pooled(results: Results, frame: pd.DataFrame, keys: list[str]) -> list[dict[str, Any]]:
    """Seen rows and memorized ones summed over seeds, by `keys`, sizes from small to large."""
    seen = frame[frame["seen"]]
    if seen.empty:
        return []
    sums = seen.assign(score=seen["mean_score"] * seen["rows"])
    sums = sums.groupby([*keys, "non_embedding"], as_index=False)[["rows", "memorized", "score"]].sum()
    sums = sums.sort_values(["non_embedding", *keys], kind="stable", ignore_index=True)
    sums["share"] = sums["memorized"] / sums["rows"]
    sums["mean_score"] = sums["score"] / sums["rows"]
    rows: list[dict[str, Any]] = sums.drop(columns=["non_embedding", "score"]).to_dict("records")
    return rows


def clear_difference(more: dict[str, Any], less: dict[str, Any]) -> bool | None:
    """Whether the first share is clearly above (True) or below (False) the second; None if neither."""
    return shares_differ((more["memorized"], less["memorized"]), (more["rows"], less["rows"]))


def memorization_and_size(results: Results) -> Finding:
    """Final memorized share of the sample by size, in the main corpus."""
    expectation = "Larger models memorize a larger share of what they have seen."
    identifier = "memorization_grows_with_size"
    last = results.final(results.memorization)
    rows = pooled(results, last[last["chosen"] == "sample"], ["corpus", "size"]) if not last.empty else []
    main = [row for row in rows if row["corpus"] == results.main_corpus]
    if not main:
        return Finding(id=identifier, text=NOT_SCORED, expectation=expectation, headline=True, short=NOT_SCORED)
    told = [f"{percent(row['share'])} of {row['rows']} rows ({row['size']}, {row['corpus']})" for row in rows]
    clear = clear_difference(main[-1], main[0])
    said = {
        True: f"is larger for {main[-1]['size']} than for {main[0]['size']}",
        False: f"is smaller for {main[-1]['size']} than for {main[0]['size']}",
        None: "does not differ clearly between the smallest and the largest size",
    }[clear]
    nothing = not any(row["memorized"] for row in main)
    if nothing:
        said = "is zero for every size: no sampled row is memorized"
    if len(main) == 1:
        said, clear = "is known for one size", None
    shares = ", ".join(f"{percent(row['share'])} ({row['size']})" for row in (main if len(main) < 5 else main[:: len(main) - 1]))
    return Finding(
        id=identifier,
        text=f"The memorized share of sampled training rows at the end {said}: {listed(told, most=16)}.",
        numbers={"final": rows},
        expectation=expectation,
        holds=False if nothing and len(main) > 1 else clear,
        headline=True,
        short=f"Memorized share of sampled training rows: {shares}",
    )


def memorization_and_training(results: Results) -> Finding:
    """Memorized share of the largest size's seen rows, first scored checkpoint with seen rows against the last."""
    expectation = "The memorized share of what was seen grows in training."
    identifier = "memorization_grows_in_training"
    size = results.sizes[-1]
    frame = results.memorization
    chosen = frame[(frame["size"] == size) & (frame["corpus"] == results.main_corpus)]
    rows = pooled(results, chosen[chosen["chosen"] == "sample"], ["step"]) if not frame.empty else []
    if len(rows) < 2:
        return Finding(id=identifier, text=NOT_SCORED, expectation=expectation)
    end = rows[-1]
    # the first checkpoints have seen a handful of the rows, whose share says nothing
    rows = [row for row in rows if row["rows"] >= end["rows"] / 10]
    early = rows[0]
    told = ", ".join(f"{percent(row['share'])} of {row['rows']} (step {row['step']})" for row in rows)
    if early is end:
        return Finding(id=identifier, text=f"Only one checkpoint counts: {told}.", expectation=expectation)
    clear = clear_difference(end, early)
    verb = {True: "grows", False: "falls", None: "does not change clearly"}[clear]
    return Finding(
        id=identifier,
        text=f"For {size} the memorized share of seen sampled rows {verb} from step {early['step']} to {end['step']}: {told}.",
        numbers={"by_step": rows},
        expectation=expectation,
        holds=False if not end["memorized"] else clear,
    )


def seen_and_unseen(results: Results) -> Finding:
    """The control: rows that a checkpoint has not seen yet, at the last step that leaves enough of them."""
    frame, size = results.memorization, results.sizes[-1]
    identifier = "unseen_rows"
    text = "No checkpoint has both seen and unseen sampled rows enough to compare them."
    if frame.empty:
        return Finding(id=identifier, text=text)
    chosen = frame[(frame["size"] == size) & (frame["corpus"] == results.main_corpus) & (frame["chosen"] == "sample")]
    sums = chosen.groupby(["step", "seen"])[["rows", "memorized"]].sum().unstack("seen", fill_value=0)
    enough = sums[(sums["rows"] >= ENOUGH_ROWS).all(axis=1)] if sums["rows"].shape[1] == 2 else sums.iloc[:0]
    if enough.empty:
        return Finding(id=identifier, text=text)
    step, last = int(enough.index[-1]), enough.iloc[-1]
    seen, unseen = (last["memorized"][kind] / last["rows"][kind] for kind in (True, False))
    return Finding(
        id=identifier,
        text=(
            f"A control: at step {step}, {size} completes {percent(seen)} of the {int(last['rows'][True])} sampled rows "
            f"it has seen and {percent(unseen)} of the {int(last['rows'][False])} it has not seen yet; text that "
            "repeats can be completed without having been seen in that place."
        ),
        numbers={"step": step, "seen": float(seen), "unseen": float(unseen)},
    )


def memorization_and_repetition(results: Results) -> Finding:
    """Rows whose text stands often in the corpus against the sample, by corpus."""
    expectation = "Text that is repeated in the corpus is memorized more than the rest (the reason to deduplicate)."
    identifier = "repeated_text_is_memorized_more"
    last = results.final(results.memorization)
    size = results.sizes[-1]
    chosen = last[(last["size"] == size) & (last["corpus"] == results.main_corpus)]
    rows = {row["chosen"]: row for row in (pooled(results, chosen, ["chosen"]) if not last.empty else [])}
    if not {"sample", "repeated"} <= set(rows):
        text = "The corpus has no repeated rows that were scored."
        return Finding(id=identifier, text=text, expectation=expectation)
    repeated, sample = rows["repeated"], rows["sample"]
    return Finding(
        id=identifier,
        text=(
            f"At the end, {size} on {results.main_corpus} has memorized {percent(repeated['share'])} of "
            f"{repeated['rows']} rows chosen because they repeat, and {percent(sample['share'])} of "
            f"{sample['rows']} sampled rows."
        ),
        numbers=rows,
        expectation=expectation,
        holds=clear_difference(repeated, sample),
    )


def memorization_and_deduplication(results: Results) -> Finding:
    """Memorized share of the sample on a corpus and its deduplicated form, same sizes and seeds."""
    expectation = "Models trained on deduplicated text memorize a smaller share of it."
    identifier = "deduplication_reduces_memorization"
    last = results.final(results.memorization)
    if results.deduplicated_pair is None or last.empty:
        text = "The study does not compare a corpus with its deduplicated form."
        return Finding(id=identifier, text=text, expectation=expectation)
    whole, reduced = results.deduplicated_pair
    keys = ["size", "init_seed", "data_seed"]
    on = {name: last[(last["corpus"] == name) & (last["chosen"] == "sample")] for name in (whole, reduced)}
    matched = on[whole][keys].drop_duplicates().merge(on[reduced][keys].drop_duplicates(), on=keys)
    sides = {name: pooled(results, frame.merge(matched, on=keys), ["size"]) for name, frame in on.items()}
    if not sides[whole] or not sides[reduced]:
        return Finding(id=identifier, text=f"No run on {whole} matches one on {reduced}.", expectation=expectation)
    told = [
        f"{percent(a['share'])} to {percent(b['share'])} ({a['size']})"
        for a, b in zip(sides[whole], sides[reduced], strict=True)
    ]
    totals = [_total(sides[name]) for name in (whole, reduced)]
    clear = clear_difference(*totals)
    verb = {True: "reduces", False: "increases", None: "does not clearly change"}[clear]
    return Finding(
        id=identifier,
        text=(
            f"Deduplication {verb} the memorized share of sampled rows, same size and seeds, {whole} to {reduced}: "
            f"{listed(told)}. {_passes(results, whole, reduced)}"
        ),
        numbers=sides,
        expectation=expectation,
        holds=clear,
    )


def _total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    count, memorized = sum(row["rows"] for row in rows), sum(row["memorized"] for row in rows)
    return {"rows": count, "memorized": memorized, "share": memorized / count}


def _passes(results: Results, whole: str, reduced: str) -> str:
    """How often the runs read each corpus: a smaller corpus is read more often, which works against it."""
    said = []
    for name in (whole, reduced):
        tokens = int(results.corpora.loc[results.corpora["corpus"] == name, "tokens"].sum())
        read = int(results.runs.loc[results.runs["corpus"] == name, "tokens"].max())
        said.append(f"{name} {read / tokens:.2f} times")
    return f"The runs read {' and '.join(said)}."
