"""Findings and figures of the law of loss by size and data (scripts/science/scaling.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from scripts.common.units import scientific, short
from scripts.report import theme
from scripts.report.findings.finding import Finding, listed
from scripts.report.results import Results, records
from scripts.report.theme import Figure
from scripts.science.statistics.isoflop import growth
from scripts.study.study import Study

ALL, LOSS = "all", "held-out loss"
EXPONENTS = {"alpha": "size", "beta": "data"}
KIND = "points"  # of resamples, whose interval is shown
EXPECTED = "On {corpus}, a law of the smaller sizes foretells the loss of the largest."


def all_findings(results: Results) -> list[Finding]:
    """What law the runs of each corpus tell, whether it foretold the largest size, and what checkpoints would say."""
    tables = [results.science.get(f"scaling_{name}") for name in ("points", "fits", "forecasts", "isoflop")]
    if any(table is None for table in tables):
        return []
    points, fits, forecasts, budgets = (table for table in tables if table is not None)
    found = []
    for corpus in dict.fromkeys(fits["corpus"]):
        of = [table[table["corpus"] == corpus] for table in (points, fits, forecasts, budgets)]
        whole = of[1][of[1]["component"] == ALL]
        found += [_law(str(corpus), of[0], whole), *_forecast(str(corpus), of[2])]
        found += [*_compute(str(corpus), of[3]), *_checkpoints(str(corpus), whole)]
    return found


def seeds_apart(points: pd.DataFrame) -> float | None:
    """Standard deviation of log loss between runs of one size and length, pooled; None where there is one run each."""
    used = points[points["point"] & (points["component"] == ALL)]
    groups = used.assign(log=np.log(used["loss"])).groupby(["corpus", "non_embedding", "tokens"])["log"]
    spare = int((groups.count() - 1).sum())
    squares = float((groups.var(ddof=1) * (groups.count() - 1)).sum())
    return float(np.sqrt(squares / spare)) if spare else None


def _law(corpus: str, points: pd.DataFrame, fits: pd.DataFrame) -> Finding:
    """The law, its exponents, what it leaves open, which run moves it most, and the seed beside it."""
    ends = fits[fits["points"] == "ends"]
    whole, parts = ends[ends["left_out"] == ""], ends[ends["left_out"] != ""]
    first = whole.iloc[0]
    if pd.isna(first["form"]):
        text = f"On {corpus} no law of loss can be fitted to the ends of runs: {first['warning']}."
        return Finding(f"scaling_{corpus}", text, {"runs": int(first["runs"]), "why": first["warning"]})
    shown = whole[whole["resampled"].isin([KIND]) | whole["resampled"].isna()]
    told = {str(line["parameter"]): line for line in records(shown)}
    names = [name for name in EXPONENTS if name in told]
    sentences = [
        f"On {corpus} the ends of {first['runs']:.0f} runs of {first['sizes']:.0f} sizes tell loss = {first['form']} "
        + "with "
        + listed([f"{name} (of {EXPONENTS[name]}) {_between(told[name])}" for name in names])
    ]
    if first["untold"]:
        sentences.append(f"They do not tell {first['untold']}")
    moved = {name: _most_moved(parts, name, told[name]["value"]) for name in names}
    sentences += [
        f"Without one run {name} moves by {change:.3f} at most ({run})" for name, (run, change) in moved.items() if run
    ]
    used = points[points["point"] & (points["component"] == ALL)]
    apart, rms = seeds_apart(points), float(np.sqrt((used["residual"] ** 2).mean()))
    yardstick = (
        f"two seeds differ by {100 * apart * np.sqrt(2):.2f} %" if apart else "there is no second seed to compare with"
    )
    sentences.append(f"Runs lie {100 * rms:.2f} % from the law (root mean square); {yardstick}")
    if (often := float(used["epochs"].max())) > 1.01:
        sentences.append(f"Text was read up to {often:.1f} times, and D counts it each time")
    return Finding(
        f"scaling_{corpus}",
        ". ".join(sentences) + ".",
        {
            "form": first["form"],
            "runs": int(first["runs"]),
            "parameters": {name: {key: line[key] for key in ("value", "low", "high")} for name, line in told.items()},
            "most_moved": {name: {"run": run, "by": change} for name, (run, change) in moved.items()},
            "residual": rms,
            "seed": apart,
        },
        figure="scaling",
        table="scaling_fits",
        **_exponent(told[names[0]]),
    )


def _exponent(line: dict[str, Any]) -> dict[str, Any]:
    """Effect and interval of a law: its first exponent."""
    told = {} if pd.isna(line["low"]) else {"interval": (float(line["low"]), float(line["high"]))}
    return {"effect": float(line["value"]), "unit": f"{line['parameter']} (of {EXPONENTS[line['parameter']]})", **told}


def _between(line: dict[str, Any]) -> str:
    if pd.isna(line["low"]):
        return f"{line['value']:.3f} ({line['warning']})"
    return f"{line['value']:.3f} (95 %: {line['low']:.3f} to {line['high']:.3f})"


def _most_moved(parts: pd.DataFrame, parameter: str, whole: float) -> tuple[str, float]:
    """The run without which a parameter is farthest from its value, and how far."""
    alone = parts[(parts["parameter"] == parameter) & ~parts["left_out"].str.startswith("lowest")]
    if alone.empty:
        return "", float("nan")
    most = alone.assign(moved=(alone["value"] - whole).abs()).sort_values("moved", kind="stable").iloc[-1]
    return str(most["left_out"]), float(most["moved"])


def _forecast(corpus: str, forecasts: pd.DataFrame) -> list[Finding]:
    """Whether the runs left out that took most compute came out as foretold, by loss and by scores."""
    if forecasts.empty:
        return []
    longest = forecasts[forecasts["tokens"] == forecasts["tokens"].max()]
    loss, scores = longest[longest["measure"] == LOSS], longest[longest["measure"] != LOSS]
    sure = scores[scores["low"].notna()]  # the reason why there is no interval is told once
    others = [f"{measure}: {_told(rows)}." for measure, rows in sure.groupby("measure", sort=True)]
    steps = " Scores, in two steps from size to loss and from loss to score: "
    verdict = _verdict(loss)
    return [
        Finding(
            f"scaling_forecast_{corpus}",
            f"On {corpus}, from all but {loss['size'].iloc[0]}: {_told(loss)}."
            + (steps + " ".join(others)) * bool(others),
            {
                "runs": list(dict.fromkeys(loss["run"])),
                "seen": list(dict.fromkeys(loss["seen"])),
                "forecast": float(loss["forecast"].iloc[0]),
                "low": float(loss["low"].min()),
                "high": float(loss["high"].max()),
                "verdict": verdict,
                "why": str(loss["why"].iloc[0]),
                "scores": {str(measure): _verdict(rows) for measure, rows in scores.groupby("measure", sort=True)},
            },
            expectation=EXPECTED.format(corpus=corpus),
            holds={"inside": True, "outside": False}.get(verdict),
        )
    ]


def _verdict(rows: pd.DataFrame) -> str:
    """The verdict that all runs share, or that it is undecided."""
    found = set(rows["verdict"])
    return str(found.pop()) if len(found) == 1 else "undecided"


def _told(rows: pd.DataFrame) -> str:
    """A forecast in words, with the widest of its intervals."""
    first = rows.iloc[0]
    runs, seen = listed(list(dict.fromkeys(rows["run"]))), listed([f"{value:.3f}" for value in rows["seen"].unique()])
    why = "; ".join(reason for reason in rows["why"].unique() if reason)
    came = _verdict(rows) + (f" ({why})" if why else "")
    if pd.isna(first["forecast"]):
        return f"no forecast of {runs}, seen {seen}, {came}"
    low, high = rows["low"].min(), rows["high"].max()
    ends = "" if pd.isna(low) else f" (95 %: {low:.3f} to {high:.3f})"
    return f"forecast {first['forecast']:.3f}{ends} of {runs}, seen {seen}, {came}"


def _compute(corpus: str, budgets: pd.DataFrame) -> list[Finding]:
    """The best size at equal compute, or why there is none."""
    if budgets.empty:
        return []
    if budgets["flop"].isna().all():
        text = f"On {corpus} sizes can't be compared at equal compute: {budgets['why'].iloc[0]}."
        return [Finding(f"scaling_isoflop_{corpus}", text, {"budgets": 0})]
    parts, numbers = [], []
    for _, rows in budgets.groupby("flop", sort=True):
        first, lowest = rows.iloc[0], rows.sort_values("moved", kind="stable").iloc[0]
        ends = {rows["non_embedding"].min(): "the smallest size", rows["non_embedding"].max(): "the largest size"}
        place = f"near N = {short(first['best'])}"
        if not first["inside"]:
            place = f"at {ends.get(lowest['non_embedding'], lowest['size'])} compared, so the best may lie beyond"
        parts.append(f"{scientific(first['flop'])} {place}")
        numbers.append({"flop": first["flop"], "best": first["best"], "inside": bool(first["inside"])})
    text = f"On {corpus} the lowest loss at equal compute lies, for FLOPs of " + listed(parts) + "."
    inside = [each for each in numbers if each["inside"]]
    power = growth([each["flop"] for each in inside], [each["best"] for each in inside])
    if len(inside) > 1:
        text += f" So the best N grows as FLOPs^{power:.2f}, over {len(inside)} budgets."
    return [Finding(f"scaling_isoflop_{corpus}", text, {"budgets": numbers, "growth": power})]


def _checkpoints(corpus: str, fits: pd.DataFrame) -> list[Finding]:
    """What a law through checkpoints of undecayed runs would say, as a warning."""
    every = fits[fits["points"] == "checkpoints"]
    if every.empty:
        return []
    values = {str(line["parameter"]): float(line["value"]) for line in records(every)}
    told = listed([f"{name} = {values[name]:.3f}" for name in EXPONENTS if name in values])
    text = (
        f"Through all {every['runs'].iloc[0]:.0f} checkpoints on {corpus} a fit would give {told}. It is no law: these "
        f"are {every['warning'].iloc[0]}."
    )
    return [Finding(f"scaling_checkpoints_{corpus}", text, values)]


# --- figures --------------------------------------------------------------------------------------


def all_figures(study: Study) -> dict[str, Callable[[Results], Figure]]:
    """What draws each figure of this module, by name."""
    return {"scaling": scaling, "scaling_isoflop": isoflop} if study.trained else {}


def scaling(results: Results) -> Figure:
    """The law with its interval, forecasts of the largest size, and what is left over, by corpus."""
    points, forecasts = (results.science.get(f"scaling_{name}") for name in ("points", "forecasts"))
    if points is None or forecasts is None or not points["fitted"].notna().any():
        why = "The ends of runs, and only those of decayed ones, are points."
        return Figure(theme.empty(why), "No law of loss can be fitted", "docs/science.md says which runs tell a law.")
    used = points[points["point"] & (points["component"] == ALL) & points["fitted"].notna()]
    rows = []
    for corpus in dict.fromkeys(used["corpus"]):
        of_corpus = used[used["corpus"] == corpus]
        ahead = forecasts[(forecasts["corpus"] == corpus) & (forecasts["measure"] == LOSS)]
        rows.append(alt.hconcat(_fit(results, of_corpus, ahead, str(corpus)), _residuals(results, of_corpus)))
    found = [finding for finding in all_findings(results) if finding.id.startswith("scaling_forecast")]
    verdicts = [f"{finding.id.removeprefix('scaling_forecast_')} {finding.numbers['verdict']}" for finding in found]
    title = "Loss by size and data; forecast of the largest size: " + listed(verdicts)
    how = (
        "Line and band: the law and its 95 % interval (runs resampled). Bars: what the other sizes foretell of the "
        "largest. Right: run less law; grey: one standard deviation between seeds."
    )
    return Figure(alt.vconcat(*rows), title, how)


def _axis(rows: pd.DataFrame) -> alt.X:
    """Tokens where they differ, else parameters."""
    if rows["tokens"].nunique() > 1:
        values = sorted(set(rows["tokens"]))
        axis = alt.Axis(values=values, format="~s", grid=False, labelOverlap=True)
        scale = alt.Scale(type="log", domain=[values[0] / 1.2, values[-1] * 1.2], nice=False)
        return alt.X("tokens:Q", title="tokens (log)", axis=axis, scale=scale)
    return theme.parameter_axis(sorted(set(rows["non_embedding"])))


def _fit(results: Results, rows: pd.DataFrame, ahead: pd.DataFrame, corpus: str) -> Any:
    by_tokens = rows["tokens"].nunique() > 1
    colour = theme.size_colour(results.sizes)
    x, tooltip = _axis(rows), ["run:N", "size:N", "tokens:Q", alt.Tooltip("loss:Q", format=".4f")]
    scale = alt.Scale(type="log", zero=False, nice=False, padding=12)
    y = alt.Y("fitted:Q", title="held-out loss (nats per token, log)", scale=scale)
    lines = rows.drop_duplicates(["non_embedding", "tokens"])
    of_size: Any = colour if by_tokens else alt.value("#555d68")
    layers = [
        alt.Chart(lines).mark_area(opacity=0.18).encode(x=x, y=alt.Y("low:Q", scale=scale), y2="high:Q", color=of_size),
        alt.Chart(lines).mark_line(strokeWidth=1.5).encode(x=x, y=y, color=of_size),
        alt.Chart(rows).mark_circle(size=55, opacity=1).encode(x=x, y="loss:Q", color=colour, tooltip=tooltip),
    ]
    widest = ahead.groupby(["run", "non_embedding", "tokens"], as_index=False).agg(
        low=("low", "min"), high=("high", "max"), forecast=("forecast", "first"), verdict=("verdict", "first")
    )
    tooltip = ["run:N", "verdict:N", *(alt.Tooltip(f"{name}:Q", format=".4f") for name in ("forecast", "low", "high"))]
    bars = alt.Chart(widest.dropna(subset=["low"]))
    ticks = alt.Chart(widest.dropna(subset=["forecast"])).mark_tick(
        color="#15181d", thickness=2, size=16, orient="horizontal"
    )
    layers += [
        bars.mark_rule(color="#15181d", strokeWidth=1.5).encode(x=x, y="low:Q", y2="high:Q", tooltip=tooltip),
        ticks.encode(x=x, y="forecast:Q", tooltip=tooltip),
    ]
    return alt.layer(*layers).properties(width=400, height=260, title=theme.panel(corpus))


def _residuals(results: Results, rows: pd.DataFrame) -> Any:
    shown = rows.assign(percent=100 * rows["residual"])
    y = alt.Y("percent:Q", title="run less law (%)", scale=alt.Scale(padding=10))
    dots = alt.Chart(shown).mark_circle(size=55, opacity=1)
    tooltip = ["run:N", "tokens:Q", alt.Tooltip("percent:Q", format="+.2f")]
    zero = alt.Chart(pd.DataFrame({"percent": [0]})).mark_rule(strokeDash=[2, 3]).encode(y="percent:Q")
    apart = 100 * (seeds_apart(rows) or 0.0)
    seeds = alt.Chart(pd.DataFrame({"low": [-apart], "high": [apart]})).mark_rect(opacity=0.12, color="#555d68")
    chart = (
        seeds.encode(y=alt.Y("low:Q"), y2="high:Q")
        + zero
        + dots.encode(x=_axis(rows), y=y, color=theme.size_colour(results.sizes), tooltip=tooltip)
    )
    return chart.properties(width=260, height=260, title=theme.panel("What the law leaves over"))


def isoflop(results: Results) -> Figure:
    """Loss by size at equal compute, a parabola a budget."""
    budgets = results.science.get("scaling_isoflop")
    if budgets is None or not budgets["flop"].notna().any():
        why = "no law of loss can be fitted" if budgets is None or budgets.empty else str(budgets["why"].iloc[0])
        return Figure(
            theme.empty(why), "Sizes can't be compared at equal compute", "docs/science.md says what it takes."
        )
    shown = budgets[budgets["flop"].notna()]
    inside = shown[shown["inside"].astype(bool)].sort_values("flop", kind="stable")
    title = "Sizes at equal compute: no minimum between those compared"
    if len(inside):
        first, last = inside.iloc[0], inside.iloc[-1]
        title = f"Best size at equal compute: N = {short(first['best'])} for {scientific(first['flop'])} FLOPs"
        title += f", {short(last['best'])} for {scientific(last['flop'])}" if last["flop"] > first["flop"] else ""
    panels = [_parabolas(rows, str(corpus)) for corpus, rows in shown.groupby("corpus", sort=True)]
    how = "Dots: runs, their loss moved to the budget along the law; lines: parabolas; diamonds: their minima."
    return Figure(alt.hconcat(*panels), title, how)


def _parabolas(rows: pd.DataFrame, corpus: str) -> Any:
    order = [scientific(flop) for flop in sorted(set(rows["flop"]))]
    named = rows.assign(budget=rows["flop"].map(scientific))
    colour = alt.Color("budget:N", title="FLOPs", sort=order, scale=theme.sequence(order))
    curves = []
    for budget, part in named[named["bend"] > 0].groupby("budget", sort=False):
        first = part.iloc[0]
        sizes = np.geomspace(part["non_embedding"].min(), part["non_embedding"].max(), 40)
        loss = first["level"] + first["bend"] * (np.log(sizes) - np.log(first["best"])) ** 2
        curves.append(pd.DataFrame({"budget": budget, "non_embedding": sizes, "moved": loss}))
    x = theme.parameter_axis(sorted(set(rows["non_embedding"])))
    y = alt.Y("moved:Q", title="held-out loss (nats per token)", scale=alt.Scale(zero=False))
    tooltip = ["run:N", "budget:N", alt.Tooltip("moved:Q", format=".4f"), alt.Tooltip("loss:Q", format=".4f")]
    layers = [alt.Chart(named).mark_circle(size=60, opacity=1).encode(x=x, y=y, color=colour, tooltip=tooltip)]
    if curves:
        layers.append(alt.Chart(pd.concat(curves)).mark_line(strokeWidth=1.5).encode(x=x, y=y, color=colour))
    lowest = named[named["inside"].astype(bool)].drop_duplicates("budget")
    if len(lowest):
        minima = alt.Chart(lowest).mark_point(shape="diamond", size=110, filled=True)
        layers.append(minima.encode(x=alt.X("best:Q"), y="level:Q", color=colour))
    return alt.layer(*layers).properties(width=420, height=280, title=theme.panel(corpus))
