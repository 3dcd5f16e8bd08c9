"""Draw the figures: results/figures/<name>.json (Vega-Lite) and .svg, and overview.png.

The specifications hold their small aggregated data, so they can be opened, restyled and reused alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from scripts.common.command import Parser
from scripts.common.files import atomic, write_json, write_text
from scripts.report import theme
from scripts.report.figures import charts, curves, scores
from scripts.report.figures import memorization as analyses
from scripts.report.findings.finding import Finding, percent
from scripts.report.findings.findings import themes
from scripts.report.findings.learning import loss_and_size
from scripts.report.findings.memorization import memorization_and_size, memorization_and_training
from scripts.report.results import Results, load
from scripts.report.theme import Figure
from scripts.study import paths, targets
from scripts.study.study import Study
from scripts.study.study import load as load_study

FRACTIONS = "Bands and bars: Wilson intervals of two standard errors, seeds pooled."


def makers(study: Study) -> dict[str, Callable[[Results], Figure]]:
    """What draws each figure of results, by name."""
    found: dict[str, Callable[[Results], Figure]] = {
        "overview": _overview,
        "loss": _loss,
        "held_out_step": _held_out_step,
        "held_out_component_step": _held_out_component_step,
        "learning_rate": _learning_rate,
        "gradient_norm": _gradient_norm,
        "held_out_size": _held_out_size,
        "held_out_component": _held_out_component,
        "evals": _evals,
        "evals_size": _evals_size,
        "evals_heat": _evals_heat,
        "memorization_step": _memorization_step,
        "memorization_size": _memorization_size,
        "corpora": _corpora,
    }
    found |= {f"memorization_{name}": partial(_analysis, name) for name in ANALYSES}
    for each in themes():
        found |= each.all_figures(study) if hasattr(each, "all_figures") else {}
    return found


def figures(results: Results, timings: pd.DataFrame | None, speed: pd.DataFrame | None = None) -> dict[str, Figure]:
    """Every figure of the report by name."""
    asked = targets.figures(results.study)
    drawn = {name: make(results) for name, make in makers(results.study).items() if name in asked}
    return {**drawn, "speed": _speed(results, speed), "timings": _timings(timings)}


def of_run(results: Results) -> dict[str, Figure]:
    """The figures of a model card by name, of results that are one run's."""
    makers = {"loss": _loss, "evals": _evals, "memorization_step": _memorization_step}
    return {name: make(results) for name, make in makers.items()}


def of_scores(results: Results) -> dict[str, Figure]:
    """The figures of models that others trained."""
    makers = {"evals": _evals, "evals_size": _evals_size, "evals_heat": _evals_heat}
    scored = {"memorization_step": _memorization_step, "memorization_size": _memorization_size}
    return {name: make(results) for name, make in (makers | ({} if results.memorization.empty else scored)).items()}


def _overview(results: Results) -> Figure:
    title = f"The {results.study.file.study} study: {len(results.runs)} runs of sizes {', '.join(results.sizes)}"
    how = "Lines: means over seeds. Bands: lowest to highest seed. Bars: two standard errors."
    return Figure(theme.along(charts.overview(results), results.per_step), title, how)


def _loss(results: Results) -> Figure:
    runs = results.runs[results.runs["corpus"] == results.main_corpus]
    ends = runs.groupby("size")["training_loss"].mean()
    known = [size for size in results.sizes if size in ends.index]
    told = ", ".join(f"{ends[size]:.2f} ({size})" for size in dict.fromkeys((*known[:1], *known[-1:])))
    how = f"Means over log-spaced steps; band: lowest to highest seed. Ends: last twentieth, {results.main_corpus}."
    title = f"Training loss ends at {told} nats per token" if told else "Training loss"
    return Figure(theme.along(charts.loss(results), results.per_step), title, how)


def _held_out_step(results: Results) -> Figure:
    how = "Mean over seeds at the saved steps; band: lowest to highest seed."
    return Figure(theme.along(curves.held_out_step(results), results.per_step), "Held-out loss in training", how)


def _held_out_component_step(results: Results) -> Figure:
    how = "Mean over seeds at the saved steps; band: lowest to highest seed; all panels on one scale."
    chart = theme.along(curves.held_out_component_step(results), results.per_step)
    return Figure(chart, "Held-out loss in training, by kind of text", how)


def _learning_rate(results: Results) -> Figure:
    chart = curves.logged(results, "learning_rate", "learning rate")
    peaks = results.losses.groupby("size")["learning_rate"].max()
    told = ", ".join(f"{peaks[size]:.2g} ({size})" for size in results.sizes if size in peaks.index)
    title = f"Learning rate, at most {told}" if told else "Learning rate"
    return Figure(theme.along(chart, results.per_step), title, "Means over log-spaced steps.")


def _gradient_norm(results: Results) -> Figure:
    chart = curves.logged(results, "gradient_norm", "gradient norm")
    how = "Before clipping; means over log-spaced steps; band: lowest to highest seed."
    return Figure(theme.along(chart, results.per_step), "Gradient norm in training", how)


def _held_out_size(results: Results) -> Figure:
    how = "A point per run; line and band: mean, lowest and highest seed."
    return Figure(charts.held_out_size(results), _claim(loss_and_size(results)), how)


def _held_out_component(results: Results) -> Figure:
    means = results.final(results.held_out)
    parts = means[means["component"] != "all"].groupby("component")["loss"].mean()
    title = f"Hardest kind of text: {parts.idxmax()}; easiest: {parts.idxmin()}" if len(parts) > 1 else ""
    return Figure(charts.held_out_component(results), title or "Held-out loss by kind of text", "Mean over seeds.")


def _evals(results: Results) -> Figure:
    hidden = results.spoken[["task_set", "task"]].drop_duplicates().shape[0] - scores.TASKS_AT_MOST
    how = "Thin: each run; bands: two standard errors over its items; thick: mean over seeds, where there are several."
    if hidden > 0:
        how += f" {hidden} more tasks are in results/tables/evals.csv."
    if not results.external.empty:
        how += " Diamonds: published."
    return Figure(
        theme.along(scores.evals(results), results.per_step), "Task scores in training, with floor and ceiling", how
    )


def _evals_size(results: Results) -> Figure:
    how = "A point per run; bar: two standard errors over its items; line and band: mean, lowest and highest seed."
    if not results.external.empty:
        how += " Diamonds: published, last step."
    return Figure(scores.evals_size(results), "Task scores at the end, by size", how)


def _evals_heat(results: Results) -> Figure:
    how = f"Per cent, {results.main_corpus}, mean over seeds. = marks models that answer nearly all items alike."
    return Figure(scores.evals_heat(results), "Task scores at the end, task by size", how)


def _memorization_step(results: Results) -> Figure:
    holds = memorization_and_training(results).holds
    title = {
        True: "The memorized fraction of what was seen grows in training",
        False: "The memorized fraction of what was seen does not grow in training",
        None: "Memorized fraction of what was seen, by step",
    }[holds]
    return Figure(theme.along(charts.memorization_step(results), results.per_step), title, FRACTIONS)


def _memorization_size(results: Results) -> Figure:
    last = memorization_and_size(results)
    title = {
        True: "Larger models end with more of the text memorized",
        False: "Larger models do not end with more of the text memorized",
        None: "Memorized fraction at the end, by size",
    }[last.holds]
    return Figure(charts.memorization_size(results), title, FRACTIONS)


ANALYSES: dict[str, tuple[Callable[[Results], Any], str, str]] = {  # chart, title, how to read it
    "canaries": (analyses.dose_response, "Canaries memorized at the end", FRACTIONS),
    "groups": (analyses.groups, "Memorized fraction by repetition and by kind of text", FRACTIONS),
    "predict": (analyses.predict, "What predicts memorization",
                "A point per pair of checkpoints on the same sequences."),
    "correlation": (analyses.correlations, "Which sequences are memorized, step against step",
                    "Correlation of memorized flags (phi), sequences that both steps have seen."),
    "histogram": (analyses.histogram, "Right tokens of greedy continuations at the end",
                  "Seen sequences, seeds pooled."),
    "order": (analyses.order, "Memorized sequences in training order against a Poisson process",
              "Windows of training; on the line if a Poisson process of the same mean made them."),
    "seen": (analyses.seen, "Memorized fraction by checkpoint and by when the sequences were seen",
             "Of sequences seen after the saved step before, up to the one named."),
}  # fmt: skip


def _analysis(name: str, results: Results) -> Figure:
    chart, title, how = ANALYSES[name]
    return Figure(chart(results), title, how)


def _corpora(results: Results) -> Figure:
    table = results.corpora
    kept, removed = int(table["tokens"].sum()), 0
    if results.deduplicated_pair:
        whole, reduced = (int(table[table["corpus"] == name]["tokens"].sum()) for name in results.deduplicated_pair)
        kept, removed = whole, whole - reduced
    taken = removed > 0 and kept > 0
    title = f"Deduplication takes away {percent(removed / kept)} of the tokens" if taken else "Tokens by kind of text"
    return Figure(charts.corpora(results), title, "Tokens in each corpus; held-out text is in none of them.")


def _speed(results: Results, measured: pd.DataFrame | None) -> Figure:
    if measured is None or measured.empty:
        return Figure(theme.empty("No speed was measured."), "Speed of training", "")
    how = "Medians of the steps between two points; runs that trained side by side slow one another."
    if measured["mfu"].isna().all():
        how += " No MFU: the device's peak is not known."
    medians = measured.groupby("size")["tokens_per_second"].median()
    told = ", ".join(f"{medians[size]:,.0f} ({size})" for size in results.sizes if size in medians.index)
    chart = theme.along(curves.speed(results, measured), results.per_step)
    return Figure(chart, f"Tokens per second in training: {told}", how)


def _timings(timings: pd.DataFrame | None) -> Figure:
    chart = charts.timings(timings)
    if timings is None or timings.empty:
        return Figure(chart, "Time by stage", "")
    by_rule = timings.groupby("rule")["seconds"].sum()
    fraction = by_rule.max() / by_rule.sum() if by_rule.sum() else 0.0
    return Figure(chart, f"{by_rule.idxmax()} takes {percent(fraction)} of the jobs' time", "Jobs ran side by side.")


def _claim(finding: Finding) -> str:
    """A headline's short line up to its numbers."""
    return (finding.short or finding.text).partition(":")[0]


def write(name: str, specification: dict[str, Any], place: Callable[[str, str], Path] = paths.figure) -> None:
    """Write a figure's specification and its picture."""
    write_json(place(name, "json"), specification)
    write_text(place(name, "svg"), theme.picture(specification))


def write_png(name: str, specification: dict[str, Any]) -> None:
    """Write a figure as a picture at twice its size."""
    import vl_convert

    picture = vl_convert.vegalite_to_png(specification, vl_version=theme.grammar(), scale=2)
    with atomic(paths.figure(name, "png")) as path:
        path.write_bytes(picture)


def main() -> None:
    parser = Parser(description=__doc__).takes("study")
    study = load_study(parser.parse_args().study)
    results = load(study)
    timings, speed = (pd.read_csv(path) if path.exists() else None for path in (paths.TIMINGS, paths.TRAINING_SPEED))
    made = figures(results, timings, speed)
    for name, figure in made.items():
        specification = theme.finish(figure.chart, figure.title, figure.subtitle)
        write(name, specification)
        if name == "overview":
            write_png(name, specification)
    print(f"{len(made)} figures")
