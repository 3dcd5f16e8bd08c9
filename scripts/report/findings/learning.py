"""Findings about loss: size, seeds, start and end, kinds of text."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from scipy import stats

from scripts.report.findings.finding import Finding, listed
from scripts.report.results import Results, records
from scripts.science.statistics.paired import Seeds, beyond, seeds

LOW_P = 0.05
SMALL_INIT_EXCESS = 0.2
START_TOLERANCE = 0.1  # nats; one draw of a small model's logits differs by some hundredths


def all_findings(results: Results) -> list[Finding]:
    """Every finding of this module."""
    claims = (loss_and_size, largest_learned, seeds_and_sizes, untrained_loss, first_step, corpora_and_loss)
    return [*(claim(results) for claim in claims), same_order(results), components(results), deduplication(results)]


def final_losses(results: Results) -> dict[str, list[dict[str, Any]]]:
    """By corpus, a row per size (small to large): mean, lowest and highest final held-out loss over seeds."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for corpus in results.corpus_names:
        for size in results.sizes:
            chosen = results.runs[(results.runs["corpus"] == corpus) & (results.runs["size"] == size)]
            if chosen.empty:
                continue
            losses = chosen["held_out_loss"]
            rows.setdefault(corpus, []).append(
                {
                    "size": size,
                    "non_embedding": int(chosen["non_embedding"].iloc[0]),
                    "mean": float(losses.mean()),
                    "lowest": float(losses.min()),
                    "highest": float(losses.max()),
                    "seeds": len(losses),
                }
            )
    return rows


def spread_of_seeds(results: Results) -> Seeds:
    """What another seed does to the final held-out loss, runs of one size and corpus pooled."""
    return seeds([list(group) for _, group in results.runs.groupby(["size", "corpus"])["held_out_loss"]])


def gaps(results: Results) -> list[dict[str, Any]]:
    """Neighbouring sizes by corpus: `gap` in mean loss, larger less smaller, and `clear`: True if it is above 0 by more
    than seeds make it, False below, None neither; its sign alone where the study has no second seed."""
    found = []
    of = spread_of_seeds(results)
    for corpus, rows in final_losses(results).items():
        for a, b in pairwise(rows):
            gap = b["mean"] - a["mean"]
            p = beyond(gap, of, (a["seeds"], b["seeds"]))
            clear = None if p >= LOW_P or gap == 0 else gap > 0
            found.append({"corpus": corpus, "smaller": a["size"], "larger": b["size"], "gap": gap, "clear": clear})
    return found


def loss_and_size(results: Results) -> Finding:
    """Does the mean final held-out loss fall at every step up in size, in every corpus, by more than seeds make it?"""
    table, steps, of = final_losses(results), gaps(results), spread_of_seeds(results)
    rises = [f"{row['larger']} is above {row['smaller']} ({row['corpus']})" for row in steps if row["clear"]]
    open_ = [f"{row['smaller']} and {row['larger']} ({row['corpus']})" for row in steps if row["clear"] is None]
    told = {corpus: ", ".join(f"{row['mean']:.3f} ({row['size']})" for row in rows) for corpus, rows in table.items()}
    lists = "; ".join(f"{corpus}: {values}" for corpus, values in told.items())
    verdict = "falls with size" if not rises else f"does not fall with size everywhere: {listed(rises)}"
    if open_ and not rises:
        verdict = f"does not tell all sizes from seeds: {listed(open_)}"
    if not steps:
        verdict = "is known for one size only"
    beside = f" Another seed changes it by {of.spread:.3f} (standard deviation)." if of.freedom else ""
    beside = beside or " No second seed says what a seed does." * bool(steps)
    main = table[results.main_corpus]
    measured = {}
    if len(main) > 1:
        counts = (main[0]["seeds"], main[-1]["seeds"])
        measured = measured_by(main[-1]["mean"] - main[0]["mean"], of, math.sqrt(sum(1 / n for n in counts) / 2))
    return Finding(
        id="loss_falls_with_size",
        text=f"Held-out loss at the end {verdict}. Nats per token, mean over seeds: {lists}.{beside}",
        numbers={"final_held_out_loss": table, "gaps": steps, "seed_spread": of.spread},
        expectation="Larger models reach a lower loss on the same text in the same order.",
        holds=False if rises else (None if open_ or not steps else True),
        headline=True,
        short=(
            f"Held-out loss {verdict.partition(':')[0]}: "
            + ", ".join(
                f"{row['mean']:.2f} ({row['size']})" for row in (main if len(main) < 5 else main[:: len(main) - 1])
            )
            + " nats"
        ),
        **measured,
    )


def measured_by(effect: float, of: Seeds, part: float = 1.0) -> dict[str, Any]:
    """Effect on the loss of a finding, and its yardstick; its interval is of seeds alone, whose error is `part` of that
    of two runs' difference."""
    half = float(stats.t.ppf(0.975, of.freedom)) * of.spread * part if of.freedom else math.nan
    told = {"interval": (effect - half, effect + half), "yardstick": of.spread} if of.freedom else {}
    return {"effect": effect, "unit": "nats per token", "table": "runs", **told}


def largest_learned(results: Results) -> Finding:
    """Where the largest size starts and ends, against a guesser that knows nothing of the vocabulary."""
    size = results.sizes[-1]
    rows = results.held_out[(results.held_out["size"] == size) & (results.held_out["component"] == "all")]
    first, last = (rows[rows["step"] == step]["loss"].mean() for step in (rows["step"].min(), rows["step"].max()))
    vocabulary = results.study.padded_vocabulary(str(rows["run"].iloc[0]))
    uniform = math.log(vocabulary)
    learned = bool(last < first)
    return Finding(
        id="largest_learned",
        text=(
            f"The largest size, {size}, {'learned' if learned else 'did not learn'}: its held-out loss went from "
            f"{first:.3f} to {last:.3f} nats per token (mean over its runs); guessing evenly among the {vocabulary:,} "
            f"tokens costs ln({vocabulary:,}) = {uniform:.3f}."
        ),
        numbers={"size": size, "start": float(first), "end": float(last), "uniform": uniform, "padded": vocabulary},
        expectation="Training lowers the loss.",
        holds=learned,
        check=True,
    )


def seeds_and_sizes(results: Results) -> Finding:
    """Is what a seed does smaller than any difference between neighbouring sizes, and are these told from it?"""
    of, steps = spread_of_seeds(results), gaps(results)
    expectation = "Runs that differ only in their seed end close together: seeds matter less than size."
    if not of.freedom or not steps:
        text = "The study has no two seeds of one size, or one size only, so seeds can't be compared with sizes."
        return Finding(id="seeds_matter_less_than_size", text=text, expectation=expectation)
    least = min(abs(row["gap"]) for row in steps)
    apart = [row for row in steps if row["clear"] is not None]
    return Finding(
        id="seeds_matter_less_than_size",
        text=(
            f"Final held-out losses of two seeds differ by {of.spread:.3f} nats per token (standard deviation, of "
            f"{of.freedom} degrees of freedom); neighbouring sizes by at least {least:.3f}, and {len(apart)} of "
            f"{len(steps)} of these differences are more than seeds make (t test, 5%)."
        ),
        numbers={"seed_spread": of.spread, "freedom": of.freedom, "smallest_gap_between_sizes": least, "gaps": steps},
        expectation=expectation,
        holds=False if of.spread >= least else (True if len(apart) == len(steps) else None),
    )


def untrained_loss(results: Results) -> Finding:
    """Is the loss before training what the initialization predicts?

    The last LayerNorm's output has squared length d, so an output matrix of standard deviation s gives
    logits of variance d s^2, and the expected loss is ln V + d s^2 / 2: 1/5 above ln V for small-init
    (s^2 = 2 / 5d, Nguyen & Salazar 2019).
    """
    rows = []
    start = results.held_out[(results.held_out["step"] == 0) & (results.held_out["component"] == "all")]
    for run, loss in zip(start["run"], start["loss"], strict=True):
        spec = results.study.run(run)
        excess = SMALL_INIT_EXCESS if spec.size.init == "small-wang" else spec.size.width * 0.02**2 / 2
        predicted = math.log(results.study.padded_vocabulary(run)) + excess
        rows.append({"run": run, "loss": float(loss), "predicted": predicted})
    worst = max(rows, key=lambda row: abs(row["loss"] - row["predicted"]))
    off = abs(worst["loss"] - worst["predicted"])
    return Finding(
        id="untrained_loss",
        text=(
            f"Before training, held-out losses lie between {min(row['loss'] for row in rows):.3f} and "
            f"{max(row['loss'] for row in rows):.3f}; the initialization predicts {worst['predicted']:.3f} for "
            f"{worst['run']}, which is furthest off, by {off:.3f}."
        ),
        numbers={"runs": rows},
        expectation="An untrained model's loss is ln(vocabulary) and half the variance of its logits.",
        holds=off <= START_TOLERANCE,
        check=True,
    )


def first_step(results: Results) -> Finding:
    """Are steps 0 and 1 equal where the first step's learning rate is 0?"""
    expectation = "The first step has learning rate 0, so the checkpoints of steps 0 and 1 are the same model."
    still = set(results.losses[(results.losses["step"] == 1) & (results.losses["learning_rate"] == 0)]["run"])
    whole = results.held_out[results.held_out["component"] == "all"]
    by_step = whole.pivot_table(index="run", columns="step", values="loss")
    both = by_step[by_step.index.isin(still)]
    if not {0, 1} <= set(both.columns) or both.empty:
        text = "No run starts at learning rate 0 and saves both step 0 and step 1, so they can't be compared."
        return Finding(id="first_step_changes_nothing", text=text, expectation=expectation, check=True)
    differing = sorted(map(str, both.index[both[0] != both[1]]))
    equal = len(both) - len(differing)
    said = f"; not those of {listed(differing)}" if differing else ""
    return Finding(
        id="first_step_changes_nothing",
        text=f"Held-out losses of steps 0 and 1 are equal to the last digit for {equal} of {len(both)} runs{said}.",
        numbers={"runs": len(both), "differing": differing},
        expectation=expectation,
        holds=not differing,
        check=True,
    )


def corpora_and_loss(results: Results) -> Finding:
    """What deduplication does to held-out loss, size by size, in runs of the same seeds."""
    if results.deduplicated_pair is None:
        return Finding(
            id="deduplication_and_loss", text="The study does not train on a corpus and its deduplicated form."
        )
    whole, reduced = results.deduplicated_pair
    keys = ["size", "init_seed", "data_seed"]
    columns = [*keys, "held_out_loss"]
    left, right = (results.runs[results.runs["corpus"] == name][columns] for name in (whole, reduced))
    pairs = left.merge(right, on=keys, suffixes=("_whole", "_reduced"))
    if pairs.empty:
        return Finding(
            id="deduplication_and_loss", text=f"No run on {whole} has the size and seeds of one on {reduced}."
        )
    pairs["change"] = pairs["held_out_loss_reduced"] - pairs["held_out_loss_whole"]
    told = ", ".join(f"{row['change']:+.3f} ({row['size']})" for row in records(pairs))
    of = spread_of_seeds(results)
    beside = f"another seed by {of.spread:.3f} (standard deviation)" if of.freedom else "no second seed is beside it"
    return Finding(
        id="deduplication_and_loss",
        text=f"Training on {reduced} instead of {whole} changes the final held-out loss by {told} nats per token; "
        f"{beside}.",
        numbers={"change": records(pairs[["size", "change"]]), "seed_spread": of.spread},
        **measured_by(float(pairs["change"].mean()), of, 1 / math.sqrt(len(pairs))),
    )


def same_order(results: Results) -> Finding:
    """Were runs of one corpus, data seed and length given the same sequences at every step?"""
    alike = results.runs.groupby(["corpus", "data_seed", "steps"])["sequences_digest"].agg(["size", "nunique"])
    groups = [
        {key: row[key] for key in ("corpus", "data_seed", "steps")} | {"runs": row["size"], "orders": row["nunique"]}
        for row in records(alike.reset_index())
    ]
    several = [group for group in groups if group["runs"] > 1]
    if not several:
        return Finding(id="same_order", text="No two runs of the study read the same corpus with the same data seed.")
    told = listed([f"{g['runs']} of {g['corpus']} with data seed {g['data_seed']}" for g in several])
    wrong = [group for group in several if group["orders"] > 1]
    return Finding(
        id="same_order",
        text=(
            f"Digests of the sequences of every step, logged while training, {'differ' if wrong else 'agree'} "
            f"among the runs: {told}."
        ),
        numbers={"groups": groups},
        expectation="All sizes saw the same sequences in the same order.",
        holds=not wrong,
        check=True,
    )


def components(results: Results) -> Finding:
    """The easiest and the hardest kind of text for the largest size."""
    last = results.final(results.held_out)
    size = results.sizes[-1]
    chosen = last[(last["size"] == size) & (last["component"] != "all") & (last["corpus"] == results.main_corpus)]
    means = chosen.groupby("component")["loss"].mean().sort_values(kind="stable")
    told = ", ".join(f"{name} {loss:.3f}" for name, loss in means.items())
    return Finding(
        id="components",
        text=f"Held-out loss of {size} on {results.main_corpus} at the end by kind of text, lowest first: {told}.",
        numbers={"loss": {str(name): float(loss) for name, loss in means.items()}},
    )


def deduplication(results: Results) -> Finding:
    """What deduplication took out of the corpora."""
    reduced = results.corpora[results.corpora["deduplicated"] & results.corpora["tokens_removed"].notna()]
    rows = []
    for row in records(reduced):
        before = row["tokens"] + row["tokens_removed"]
        rows.append({"component": row["component"], "removed": row["tokens_removed"] / before if before else 0.0})
    removed = [f"{row['component']} {100 * row['removed']:.1f}%" for row in rows if row["removed"] > 0]
    told = (
        f"Deduplication removed of the tokens: {', '.join(removed)}." if removed else "Deduplication removed nothing."
    )
    if reduced.empty:
        told = "The study has no corpus both with and without its near-duplicates."
    return Finding(id="deduplication_removed", text=told, numbers={"components": rows})
