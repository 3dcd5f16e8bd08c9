"""Findings about memorization: size, training step, repetition, deduplication.

Fractions are of sequences the checkpoint has seen, pooled over seeds; a difference counts from two standard
errors of a difference of fractions on.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from scripts.report.findings.finding import Finding, detectable, fractions_differ, listed, percent
from scripts.report.results import Results, records

NOT_SCORED = "Memorization was not scored on sequences that a checkpoint had seen."
ENOUGH_ROWS = 30
NONE_OF = 3  # none of n: the fraction is below 3 / n with 95 % (the rule of three)


def all_findings(results: Results) -> list[Finding]:
    """Every finding of this module."""
    first = [memorization_and_size(results), memorization_and_training(results), seen_and_unseen(results)]
    return [*first, memorization_and_repetition(results), memorization_and_deduplication(results)]


def pooled(frame: pd.DataFrame, keys: list[str]) -> list[dict[str, Any]]:
    """Seen sequences and memorized ones summed over seeds, by `keys`, sizes from small to large."""
    seen = frame[frame["seen"]]
    if seen.empty:
        return []
    sums = seen.assign(score=seen["mean_score"] * seen["sequences"])
    sums = sums.groupby([*keys, "non_embedding"], as_index=False)[["sequences", "memorized", "score"]].sum()
    sums = sums.sort_values(["non_embedding", *keys], kind="stable", ignore_index=True)
    sums["fraction"] = sums["memorized"] / sums["sequences"]
    sums["mean_score"] = sums["score"] / sums["sequences"]
    return records(sums.drop(columns=["non_embedding", "score"]))


def clear_difference(more: dict[str, Any], less: dict[str, Any]) -> bool | None:
    """Whether the first fraction is clearly above (True) or below (False) the second; None if neither."""
    return fractions_differ((more["memorized"], less["memorized"]), (more["sequences"], less["sequences"]))


def visible(one: dict[str, Any], other: dict[str, Any]) -> str:
    """, 3.1% would have been seen: the difference of two fractions that 80 % of studies find."""
    pooled = (one["memorized"] + other["memorized"]) / (one["sequences"] + other["sequences"])
    error = math.sqrt(pooled * (1 - pooled) * (1 / one["sequences"] + 1 / other["sequences"]))
    return f", {percent(detectable(error))} would have been seen" if error else ""


def none_at_all(rows: dict[str, Any]) -> bool | None:
    """False, none is memorized, if one in a hundred would have been found among so many sequences; None if not."""
    return False if 0.01 * rows["sequences"] >= NONE_OF else None


def memorization_and_size(results: Results) -> Finding:
    """Final memorized fraction of the sample: largest against smallest size over the corpora and seeds both have.

    Their sequences are the same, so the test, which takes them as independent, is careful.
    """
    expectation = "Larger models memorize a larger fraction of what they have seen."
    identifier = "memorization_grows_with_size"
    last = results.final(results.memorization)
    rows = pooled(last[last["chosen"] == "sample"], ["corpus", "size"]) if not last.empty else []
    main = [row for row in rows if row["corpus"] == results.main_corpus]
    if not main:
        return Finding(id=identifier, text=NOT_SCORED, expectation=expectation, headline=True, short=NOT_SCORED)
    by_corpus = [
        f"{corpus}: " + ", ".join(f"{percent(r['fraction'])} ({r['size']})" for r in rows if r["corpus"] == corpus)
        for corpus in results.corpus_names
    ]
    small, large = (_matched_total(results, last, size) for size in (results.sizes[0], results.sizes[-1]))
    clear = clear_difference(large, small) if small["sequences"] and large["sequences"] else None
    told = (
        f"{percent(small['fraction'])} to {percent(large['fraction'])} of {large['sequences']} sequences over all runs"
    )
    said = {
        True: f"grows from {results.sizes[0]} to {results.sizes[-1]}, {told}",
        False: f"falls from {results.sizes[0]} to {results.sizes[-1]}, {told}",
        None: f"does not differ clearly between {results.sizes[0]} and {results.sizes[-1]}, {told}",
    }[clear]
    said += visible(small, large) if clear is None and small["sequences"] and large["sequences"] else ""
    nothing = not any(row["memorized"] for row in rows)
    if nothing:
        said, clear = "is zero for every size: no sampled sequence is memorized", none_at_all(large)
    if len(results.sizes) == 1:
        said, clear = "is known for one size", None
    fractions = ", ".join(
        f"{percent(row['fraction'])} ({row['size']})" for row in (main if len(main) < 5 else main[:: len(main) - 1])
    )
    unseen = control(results)
    fraction = _control_numbers(unseen).get("unseen", 0.0)
    return Finding(
        id=identifier,
        text=f"The memorized fraction of sampled training sequences at the end {said}. "
        f"By corpus: {'; '.join(by_corpus)}."
        + (f" The control: {control_in_words(results, unseen)}." if unseen else ""),
        numbers={"final": rows, "control": _control_numbers(unseen)},
        expectation=expectation,
        holds=clear,
        headline=True,
        short=f"Memorized of seen sequences: {fractions}" + (f"; of unseen {percent(fraction)}" if unseen else ""),
    )


def memorization_and_training(results: Results) -> Finding:
    """Memorized fraction of seen sequences over all runs: the first checkpoint that has seen enough against the last.

    Only steps that every run saves are compared.
    """
    expectation = "The memorized fraction of what was seen grows in training."
    identifier = "memorization_grows_in_training"
    frame = results.memorization
    if frame.empty:
        return Finding(id=identifier, text=NOT_SCORED, expectation=expectation)
    shared = set.intersection(*(set(steps) for _, steps in frame.groupby("run")["step"]))
    chosen = frame[frame["step"].isin(shared) & (frame["chosen"] == "sample") & frame["seen"]]
    sums = chosen.groupby("step")[["sequences", "memorized"]].sum().reset_index()
    # the first checkpoints have seen a handful of the sequences, whose fraction says nothing
    sums = sums[sums["sequences"] >= sums["sequences"].max() / 10].assign(
        fraction=lambda kept: kept["memorized"] / kept["sequences"]
    )
    rows = records(sums)
    if len(rows) < 2:
        return Finding(id=identifier, text=NOT_SCORED, expectation=expectation)
    early, end = rows[0], rows[-1]
    told = ", ".join(f"{percent(row['fraction'])} of {row['sequences']:.0f} (step {row['step']:.0f})" for row in rows)
    clear = clear_difference(end, early)
    verb = {True: "grows", False: "falls", None: "does not change clearly"}[clear]
    beside = visible(early, end) if clear is None else ""
    return Finding(
        id=identifier,
        text=(
            f"Over all runs the memorized fraction of the sampled sequences seen so far {verb} in training: "
            f"{told}{beside}."
        ),
        numbers={"by_step": rows},
        expectation=expectation,
        holds=clear if end["memorized"] else none_at_all(end),
    )


def control(results: Results) -> dict[str, Any] | None:
    """What the largest size completes of sequences that it has not seen yet, and of those it has, at the last step that
    leaves enough of both: text that repeats can be completed without having been seen in that place."""
    frame = results.memorization
    if frame.empty:
        return None
    chosen = frame[(frame["size"] == results.sizes[-1]) & (frame["corpus"] == results.main_corpus)]
    chosen = chosen[chosen["chosen"] == "sample"]
    both = [chosen[chosen["seen"] == kind].groupby("step")[["sequences", "memorized"]].sum() for kind in (True, False)]
    sums = both[0].add_suffix("_seen").join(both[1].add_suffix("_unseen"), how="inner")
    enough = sums[sums[["sequences_seen", "sequences_unseen"]].min(axis=1) >= ENOUGH_ROWS].reset_index()
    return records(enough)[-1] if len(enough) else None


def control_in_words(results: Results, found: dict[str, Any]) -> str:
    """at step 600, 1.7m completes 9.1% of the 720 sampled sequences it has seen and 8.8% of the 160 it has not."""
    seen, unseen = ({key: found[f"{key}_{kind}"] for key in ("sequences", "memorized")} for kind in ("seen", "unseen"))
    fractions = [percent(side["memorized"] / side["sequences"]) for side in (seen, unseen)]
    no = f"no clear difference{visible(seen, unseen)}"
    verdict = {True: "clearly more", False: "clearly less", None: no}[clear_difference(seen, unseen)]
    return (
        f"at step {found['step']}, {results.sizes[-1]} completes {fractions[0]} of the {seen['sequences']} sampled "
        f"sequences it has seen and {fractions[1]} of the {unseen['sequences']} it has not seen yet ({verdict})"
    )


def seen_and_unseen(results: Results) -> Finding:
    """The control: sequences that a checkpoint has not seen yet."""
    found = control(results)
    if found is None:
        text = "No checkpoint has both seen and unseen sampled sequences enough to compare them."
        return Finding(id="unseen_sequences", text=text)
    text = (
        f"A control: {control_in_words(results, found)}; text that repeats can be completed without having been seen "
    )
    return Finding(id="unseen_sequences", text=f"{text}in that place.", numbers=_control_numbers(found))


def _control_numbers(found: dict[str, Any] | None) -> dict[str, Any]:
    """Step and fractions; nothing where there is no control."""
    if found is None:
        return {}
    seen, unseen = (found[f"memorized_{kind}"] / found[f"sequences_{kind}"] for kind in ("seen", "unseen"))
    return {"step": found["step"], "seen": seen, "unseen": unseen}


def memorization_and_repetition(results: Results) -> Finding:
    """Rows whose text stands often in the corpus against the sample, by corpus."""
    expectation = "Text that is repeated in the corpus is memorized more than the rest (the reason to deduplicate)."
    identifier = "repeated_text_is_memorized_more"
    last = results.final(results.memorization)
    size = results.sizes[-1]
    chosen = last[(last["size"] == size) & (last["corpus"] == results.main_corpus)]
    rows = {row["chosen"]: row for row in (pooled(chosen, ["chosen"]) if not last.empty else [])}
    if not {"sample", "repeated"} <= set(rows):
        text = "The corpus has no repeated sequences that were scored."
        return Finding(id=identifier, text=text, expectation=expectation)
    repeated, sample = rows["repeated"], rows["sample"]
    return Finding(
        id=identifier,
        text=(
            f"At the end, {size} on {results.main_corpus} has memorized {percent(repeated['fraction'])} of "
            f"{repeated['sequences']} sequences chosen because they repeat, and {percent(sample['fraction'])} of "
            f"{sample['sequences']} sampled sequences."
        ),
        numbers=rows,
        expectation=expectation,
        holds=clear_difference(repeated, sample),
    )


def memorization_and_deduplication(results: Results) -> Finding:
    """Memorized fraction of the sample on a corpus and its deduplicated form, same sizes and seeds."""
    expectation = "Models trained on deduplicated text memorize a smaller fraction of it."
    identifier = "deduplication_reduces_memorization"
    last = results.final(results.memorization)
    if results.deduplicated_pair is None or last.empty:
        text = "The study does not compare a corpus with its deduplicated form."
        return Finding(id=identifier, text=text, expectation=expectation)
    whole, reduced = results.deduplicated_pair
    keys = ["size", "init_seed", "data_seed"]
    on = {name: last[(last["corpus"] == name) & (last["chosen"] == "sample")] for name in (whole, reduced)}
    matched = on[whole][keys].drop_duplicates().merge(on[reduced][keys].drop_duplicates(), on=keys)
    sides = {name: pooled(frame.merge(matched, on=keys), ["size"]) for name, frame in on.items()}
    if not sides[whole] or not sides[reduced]:
        return Finding(id=identifier, text=f"No run on {whole} matches one on {reduced}.", expectation=expectation)
    told = [
        f"{percent(a['fraction'])} to {percent(b['fraction'])} ({a['size']})"
        for a, b in zip(sides[whole], sides[reduced], strict=True)
    ]
    totals = [_total(sides[name]) for name in (whole, reduced)]
    clear = clear_difference(*totals)
    verb = {True: "reduces", False: "increases", None: "does not clearly change"}[clear]
    beside = visible(*totals) if clear is None else ""
    return Finding(
        id=identifier,
        text=(
            f"Deduplication {verb} the memorized fraction of sampled sequences, same size and seeds, {whole} to "
            f"{reduced}: {listed(told)}{beside}. {_passes(results, whole, reduced)}"
        ),
        numbers=sides,
        expectation=expectation,
        holds=clear,
    )


def _matched_total(results: Results, last: pd.DataFrame, size: str) -> dict[str, Any]:
    """Seen sampled sequences of a size, over the corpora and seeds that the smallest and the largest size both have."""
    keys = ["corpus", "init_seed", "data_seed"]
    sample = last[(last["chosen"] == "sample") & last["seen"]]
    ends = [sample[sample["size"] == end][keys].drop_duplicates() for end in (results.sizes[0], results.sizes[-1])]
    both = ends[0].merge(ends[1], on=keys)
    rows = sample[sample["size"] == size].merge(both, on=keys)
    count, memorized = int(rows["sequences"].sum()), int(rows["memorized"].sum())
    return {"sequences": count, "memorized": memorized, "fraction": memorized / count if count else 0.0}


def _total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    count, memorized = sum(row["sequences"] for row in rows), sum(row["memorized"] for row in rows)
    return {"sequences": count, "memorized": memorized, "fraction": memorized / count}


def _passes(results: Results, whole: str, reduced: str) -> str:
    """How often the runs read each corpus: a smaller corpus is read more often, which works against it."""
    said = []
    for name in (whole, reduced):
        tokens = int(results.corpora.loc[results.corpora["corpus"] == name, "tokens"].sum())
        read = int(results.runs.loc[results.runs["corpus"] == name, "tokens"].max())
        said.append(f"{name} {read / tokens:.2f} times")
    return f"The runs read {' and '.join(said)}."
