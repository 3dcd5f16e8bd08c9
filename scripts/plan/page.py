"""The plan as a page, results/plan.html: hours and bytes by size, the table of runs, what was measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import altair as alt
from markupsafe import Markup

from scripts.common.units import bytes_short, device_time, duration, short
from scripts.plan.costs import Plan, RunPlan
from scripts.plan.measured import Comparison
from scripts.plan.text import COLUMNS, MEASURED, measured_cells, money, run_cells, total_cells, totals
from scripts.report import theme
from scripts.report.pages.environment import rendered

PAGE = Path(__file__).with_name("page.html")
COLOURS = (*theme.CORPUS_COLOURS, "#f0e442", "#7d8590")
TIMES = {"device-hours": 1.0, "device-minutes": 1 / 60, "device-seconds": 1 / 3600}
BYTES = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3}


def plan_page(plan: Plan, comparison: Comparison) -> str:
    """The page's HTML, in one file that opens without a network."""
    return rendered(
        PAGE,
        plan=plan,
        tiles=tiles(plan),
        figure=Markup(picture(plan)),
        columns=[(name, number not in (0, 5)) for number, name in enumerate(COLUMNS)],
        rows=[*map(run_cells, plan.runs), total_cells(plan)],
        totals=totals(plan),
        comparison=comparison,
        measured_columns=[(name, number > 1) for number, name in enumerate(MEASURED)],
        measured=[measured_cells(row) for row in comparison.rows],
    )


def tiles(plan: Plan) -> list[tuple[str, str]]:
    """Numbers for the head of the page."""
    longest = max(run.wall_hours for run in plan.runs)
    shown = [
        (str(len(plan.runs)), "runs"),
        (short(sum(run.tokens for run in plan.runs)), "tokens to train on"),
        (device_time(plan.hours.total), f"on {plan.device}"),
        (duration(longest), "training of the longest run"),
        (bytes_short(plan.peak_bytes), "on disk at most"),
    ]
    return [*shown, (money(plan.cost), f"at {plan.price:g} a device-hour")] if plan.cost is not None else shown


def picture(plan: Plan) -> str:
    """The figure as SVG."""
    import vl_convert

    where = f"Every run of a size together; {plan.what}."
    specification = theme.finish(figure(plan), f"Device time and disk of the {plan.study} study, by size", where)
    svg: str = vl_convert.vegalite_to_svg(specification, vl_version=theme.grammar())
    return svg


def figure(plan: Plan) -> Any:
    """Two panels with a bar per size: device time by stage, and bytes kept by kind."""
    sizes = list(dict.fromkeys(run.size for run in sorted(plan.runs, key=lambda run: run.non_embedding)))
    hours = _panel(plan, sizes, lambda run: run.hours.by_stage, "Device time", device_time, TIMES)
    disk = _panel(plan, sizes, kept, "Checkpoints and models", bytes_short, BYTES)
    return alt.hconcat(hours, disk).resolve_scale(color="independent")


def kept(run: RunPlan) -> dict[str, float | None]:
    """Bytes kept of a run, by kind."""
    told = run.bytes
    return {
        "native weights": told.weights, "optimizer state": told.optimizer, "models": told.models,
        "GGUF files": told.exports,
    }  # fmt: skip


def _panel(
    plan: Plan, sizes: list[str], parts_of: Callable[[RunPlan], dict[str, float | None]], title: str,
    told: Callable[[float], str], units: dict[str, float],
) -> Any:  # fmt: skip
    """Stacked bars with their sum written at the end; parts that are nothing are left out of the legend."""
    parts = list(parts_of(plan.runs[0]))
    sums = {
        (size, part): sum(parts_of(run)[part] or 0.0 for run in plan.runs if run.size == size)
        for size in sizes
        for part in parts
    }
    shown = [part for part in parts if any(sums[size, part] for size in sizes)]
    ends = {size: sum(sums[size, part] for part in shown) for size in sizes}
    unit = next((name for name, scale in units.items() if max(ends.values()) >= 2 * scale), list(units)[-1])
    scale = units[unit]
    data = [
        {"size": size, "part": part, "rank": rank, "value": sums[size, part] / scale}
        for size in sizes
        for rank, part in enumerate(shown)
    ]
    labels = [{"size": size, "value": end / scale, "text": told(end)} for size, end in ends.items()]
    y = alt.Y("size:N", sort=sizes, title=None)
    axis = alt.Axis(format=",~f", tickCount=4)
    room = alt.Scale(domainMax=1.25 * max(ends.values()) / scale, nice=False)
    x = alt.X("value:Q", title=unit, axis=axis, scale=room)
    colour = alt.Color(
        "part:N",
        title=None,
        sort=shown,
        scale=alt.Scale(domain=shown, range=list(COLOURS[: len(shown)])),
        legend=alt.Legend(symbolType="square", columns=5),
    )
    bars = alt.Chart(alt.Data(values=data)).mark_bar().encode(x=x, y=y, color=colour, order=alt.Order("rank:Q"))
    text = alt.Chart(alt.Data(values=labels)).mark_text(align="left", dx=5, color="#555d68").encode(
        x=x, y=y, text="text:N"
    )  # fmt: skip
    return (bars + text).properties(width=470, height=max(70, 30 * len(sizes)), title=theme.panel(title))
