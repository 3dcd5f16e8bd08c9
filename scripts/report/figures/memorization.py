"""Charts of the analyses of memorization, for their own page; each from one of the tables memorization_<name>."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from scripts.report import theme
from scripts.report.figures.aggregate import wilson
from scripts.report.results import Results, named

NOTHING = "No sequence was memorized."
MAPS_AT_MOST = 4


def shown_runs(results: Results) -> list[str]:
    """The run of the largest size on each corpus; of several seeds the one that the study names first."""
    largest = results.runs[results.runs["size"] == results.sizes[-1]]
    by_corpus = (set(largest.loc[largest["corpus"] == corpus, "run"]) for corpus in results.corpus_names)
    return [next(name for name in results.study.runs if name in runs) for runs in by_corpus if runs]


def predict(results: Results) -> Any:
    """Precision against recall: smaller sizes of the largest at the end, and a run's earlier steps of its last one."""
    table = results.analyses["pairs"].dropna(subset=["precision", "recall"])
    sizes = named(results, "pairs", "predictor").dropna(subset=["precision", "recall"])
    largest = set(results.runs.loc[results.runs["size"] == results.sizes[-1], "run"])
    sizes = sizes[(sizes["kind"] == "size") & sizes["target"].isin(largest)]
    steps = table[(table["kind"] == "step") & table["predictor"].isin(shown_runs(results))]
    if sizes.empty and steps.empty:
        return theme.empty(NOTHING)
    axes: dict[str, Any] = {
        "x": alt.X("recall:Q", title="recall", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
        "y": alt.Y("precision:Q", title="precision", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
    }
    tooltip = ["predictor:N", "predictor_step:Q", "target:N", "target_step:Q", "predicted:Q", "memorized:Q", "both:Q",
               alt.Tooltip("precision:Q", format=".1%"), alt.Tooltip("recall:Q", format=".1%")]  # fmt: skip
    kept = [*axes, "predictor", "predictor_step", "target", "target_step", "predicted", "memorized", "both"]
    kept = [name for name in (*kept, "precision", "recall", "size", "corpus") if name in sizes.columns]
    left = alt.Chart(sizes[kept]).mark_point(filled=True, size=110, opacity=1)
    left = left.encode(**axes, color=theme.size_colour(results.sizes), shape="corpus:N", tooltip=tooltip)
    path = alt.Chart(steps[[name for name in kept if name in steps.columns]]).encode(**axes)
    line = path.mark_line(strokeWidth=1.5).encode(order="predictor_step:Q", color=alt.Color("predictor:N", title="run"))
    dots = path.mark_point(filled=True, size=60).encode(color=alt.Color("predictor:N", title="run"), tooltip=tooltip)
    text = path.mark_text(dx=12, dy=10, fontSize=10, color="#4a515b").encode(text="predictor_step:Q")
    first = left.properties(width=330, height=280, title=theme.panel(f"A smaller size predicts {results.sizes[-1]}"))
    second = (line + dots + text).properties(
        width=330, height=280, title=theme.panel("An earlier step predicts the last")
    )
    return alt.hconcat(first, second).resolve_scale(color="independent")


def correlations(results: Results) -> Any:
    """Correlation of memorized flags between the steps of a run: a map a corpus, its largest size."""
    table = results.analyses["pairs"].dropna(subset=["correlation"])
    maps = []
    for run in shown_runs(results)[:MAPS_AT_MOST]:
        of_run = table[(table["predictor"] == run) & (table["target"] == run)]
        if of_run.empty:
            continue
        data = of_run[["predictor_step", "target_step", "correlation", "sequences"]]
        base = alt.Chart(data).encode(
            x=alt.X("predictor_step:O", title="step"), y=alt.Y("target_step:O", title="step", sort="descending")
        )
        colour = alt.Color("correlation:Q", scale=alt.Scale(scheme="viridis", domain=[0, 1]))
        cells = base.mark_rect().encode(color=colour, tooltip=["predictor_step", "target_step", "sequences",
                                                               alt.Tooltip("correlation:Q", format=".2f")])  # fmt: skip
        maps.append(cells.properties(width=300, height=260, title=theme.panel(run)))
    return alt.concat(*maps, columns=2) if maps else theme.empty(NOTHING)


def histogram(results: Results) -> Any:
    """Sequences by number of right tokens at the end, seeds pooled: a panel per corpus."""
    data = named(results, "histogram").groupby(["corpus", "size", "hits"], as_index=False)["sequences"].sum()
    if data.empty:
        return theme.empty("Scores were not asked for (memorization.mode: exact).")
    panels = []
    for corpus in (name for name in results.corpus_names if name in set(data["corpus"])):
        base = alt.Chart(data[data["corpus"] == corpus].drop(columns="corpus"))
        drawn = base.mark_line(point=True, strokeWidth=1.5).encode(
            x=alt.X("hits:Q", title="right tokens", axis=alt.Axis(format="d", tickMinStep=1)),
            y=alt.Y("sequences:Q", title="sequences (log)", scale=alt.Scale(type="log")),
            color=theme.size_colour(results.sizes), tooltip=["size:N", "hits:Q", "sequences:Q"],
        )  # fmt: skip
        panels.append(drawn.properties(width=340, height=230, title=theme.panel(corpus)))
    return alt.concat(*panels, columns=2)


def order(results: Results) -> Any:
    """Memorized sequences per window of training against quantiles of independent ones, with and without duplicates."""
    table = results.analyses["windows"]
    data = table[table["run"].isin(shown_runs(results))]
    if data.empty:
        return theme.empty(NOTHING)
    data = data.groupby(["run", "duplicates", "expected", "memorized"], as_index=False).size()
    panels = []
    for (run, duplicates), part in data.groupby(["run", "duplicates"], sort=True):
        top = float(max(part["expected"].max(), part["memorized"].max())) + 1
        base = alt.Chart(part.drop(columns=["run", "duplicates"]))
        dots = base.mark_circle(opacity=0.8).encode(
            x=alt.X("expected:Q", title="quantile of independent sequences", scale=alt.Scale(domain=[0, top])),
            y=alt.Y("memorized:Q", title="memorized sequences per window", scale=alt.Scale(domain=[0, top])),
            size=alt.Size("size:Q", title="windows"), tooltip=["expected:Q", "memorized:Q", "size:Q"],
        )  # fmt: skip
        ends = alt.Chart(pd.DataFrame({"x": [0, top], "y": [0, top]}))
        rule = ends.mark_line(strokeDash=[3, 3], color="#7d8590").encode(x="x:Q", y="y:Q")
        title = theme.panel(str(run), f"duplicates {duplicates}")
        panels.append((rule + dots).properties(width=250, height=220, title=title))
    return alt.concat(*panels, columns=3)


def seen(results: Results) -> Any:
    """Memorized fraction by checkpoint and by when the sequences were seen: does a model hold what it saw just
    before?"""
    data = (
        named(results, "seen").groupby(["run", "step", "seen_until"], as_index=False)[["sequences", "memorized"]].sum()
    )
    data["fraction"] = data["memorized"] / data["sequences"]
    data = data[data["run"].isin(shown_runs(results))]
    if data.empty:
        return theme.empty("No checkpoint has seen a scored sequence.")
    fractions = alt.Scale(scheme="viridis", domain=[0, max(0.01, float(data["fraction"].max()))])
    panels = []
    for run, part in data.groupby("run", sort=True):
        drawn = alt.Chart(part.drop(columns="run")).mark_rect().encode(
            x=alt.X("seen_until:O", title="seen up to step"),
            y=alt.Y("step:O", title="checkpoint", sort="descending"),
            color=alt.Color("fraction:Q", title="memorized fraction", scale=fractions, legend=alt.Legend(format="~%")),
            tooltip=["step:Q", "seen_until:Q", "sequences:Q", "memorized:Q", alt.Tooltip("fraction:Q", format=".1%")],
        )  # fmt: skip
        panels.append(drawn.properties(width=320, height=280, title=theme.panel(str(run))))
    return alt.concat(*panels, columns=2)


def groups(results: Results) -> Any:
    """Memorized fraction by duplicate count and by component, at the end, seeds pooled."""
    return alt.vconcat(*(_by(results, by, title) for by, title in (
        ("count", "times that the scored text stands in the corpus (lower end of the group)"),
        ("component", "kind of text"),
    )))  # fmt: skip


def dose_response(results: Results) -> Any:
    """Dose and response: fraction of canaries memorized, and of their tokens right, by copies in the corpus.

    Sizes are drawn a little apart along the logarithmic axis, so that none hides another.
    """
    data = named(results, "groups")
    data = data[data["by"] == "canary"].assign(
        dose=lambda rows: rows["group"].astype(int), right=lambda rows: rows["mean_score"] * rows["sequences"]
    )
    keys = ["corpus", "size", "dose"]
    data = data.groupby(keys, as_index=False)[["sequences", "memorized", "right"]].sum(min_count=1)
    if data.empty:
        return theme.empty("The corpus holds no canaries.")
    data["fraction"], data["right"] = data["memorized"] / data["sequences"], data["right"] / data["sequences"]
    data["lowest"], data["highest"] = wilson(data["memorized"].to_numpy(), data["sequences"].to_numpy())
    apart = data["size"].map(results.sizes.index) - (len(results.sizes) - 1) / 2
    data["x"] = data["dose"] * 2.0 ** (0.1 * apart)
    panels = []
    for corpus in results.corpus_names:
        part = data[data["corpus"] == corpus].drop(columns="corpus")
        if not part.empty:
            panels.append(_response(part, "fraction", "memorized strings", results.sizes, corpus))
            if part["right"].notna().all():
                panels.append(_response(part, "right", "right tokens", results.sizes, corpus))
    return alt.concat(*panels, columns=2)


def _response(data: pd.DataFrame, column: str, title: str, sizes: list[str], corpus: str) -> Any:
    """One panel of a dose-response figure, with intervals of the memorized fraction."""
    doses = sorted(set(data["dose"].tolist()))
    scale = alt.Scale(type="log", base=2, domain=[doses[0] / 1.2, doses[-1] * 1.2], nice=False)
    axis = alt.Axis(values=doses, format="d", grid=False)
    base = alt.Chart(data).encode(
        x=alt.X("x:Q", title="copies of a string", scale=scale, axis=axis), color=theme.size_colour(sizes)
    )
    y = alt.Y(f"{column}:Q", title=title, axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))
    tooltip = ["size:N", "dose:Q", "sequences:Q", "memorized:Q", alt.Tooltip(f"{column}:Q", format=".1%")]
    layers = [base.mark_line(strokeWidth=2).encode(y=y),
              base.mark_point(filled=True, size=60, opacity=1).encode(y=y, tooltip=tooltip)]  # fmt: skip
    if column == "fraction":
        layers.insert(0, base.mark_rule(opacity=0.45).encode(y=alt.Y("lowest:Q", title=""), y2="highest:Q"))
    return alt.layer(*layers).properties(width=340, height=200, title=theme.panel(f"{corpus}: {title}"))


def _by(results: Results, by: str, title: str) -> Any:
    data = named(results, "groups")
    keys = ["corpus", "size", "group"]
    data = data[data["by"] == by].groupby(keys, as_index=False)[["sequences", "memorized"]].sum()
    if data.empty:
        return theme.empty(NOTHING)
    data["fraction"] = data["memorized"] / data["sequences"]
    data["lowest"], data["highest"] = wilson(data["memorized"].to_numpy(), data["sequences"].to_numpy())
    names = sorted(set(data["group"]), key=str if by == "component" else float)
    panels = []
    for corpus in (name for name in results.corpus_names if name in set(data["corpus"])):
        base = alt.Chart(data[data["corpus"] == corpus].drop(columns="corpus")).encode(
            x=alt.X("group:N", sort=names, title=title, axis=alt.Axis(labelAngle=-90 if by == "component" else 0)),
            xOffset=alt.XOffset("size:N", sort=results.sizes), color=theme.size_colour(results.sizes),
        )  # fmt: skip
        scale = alt.Scale(domain=[0, float(np.ceil(10 * data["highest"].max()) / 10)])
        y = alt.Y("fraction:Q", title="memorized fraction", axis=alt.Axis(format="~%"), scale=scale)
        bars = base.mark_bar().encode(y=y, tooltip=["group:N", "size:N", "sequences:Q", "memorized:Q",
                                                    alt.Tooltip("fraction:Q", format=".1%")])  # fmt: skip
        error = base.mark_rule(color="#4a515b").encode(
            y=alt.Y("lowest:Q", title=""), y2="highest:Q", color=alt.value("#4a515b")
        )
        panels.append((bars + error).properties(width=340, height=200, title=theme.panel(corpus)))
    return alt.concat(*panels, columns=2)
