"""What interventions changed, in words and drawn: their runs beside their parents, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd

from scripts.report import theme
from scripts.report.findings.finding import Finding
from scripts.report.results import Results
from scripts.report.theme import Figure
from scripts.study.study import Study

KEYS = ["step", "component"]


def against_parents(results: Results) -> pd.DataFrame:
    """Held-out loss of each intervention's run less its parent's, at the steps and kinds of text that both have.

    Columns: run, intervention, parent, step, component, difference.
    """
    held, parts = results.changed["held_out"], []
    for spec in results.study.runs.values():
        if spec.origin is None or spec.origin.run is None:
            continue
        child, parent = (held[held["run"] == name] for name in (spec.name, spec.origin.run))
        both = child.merge(parent[[*KEYS, "loss"]], on=KEYS, suffixes=("", "_parent"))
        difference = both["loss"] - both["loss_parent"]
        both = both.assign(parent=spec.origin.run, difference=difference)
        parts.append(both[["run", "intervention", "parent", *KEYS, "difference"]])
    columns = ["run", "intervention", "parent", *KEYS, "difference"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def all_findings(results: Results) -> list[Finding]:
    """A fact for each intervention's run: by how much it ends apart from its parent."""
    table = against_parents(results)
    return [_fact(results, run, rows) for run, rows in table.groupby("run", sort=False)]


def all_figures(study: Study) -> dict[str, Callable[[Results], Figure]]:
    """What draws each figure of this module, by name."""
    return {"interventions": interventions} if study.file.interventions else {}


def interventions(results: Results) -> Figure:
    """Each intervention beside its parent."""
    how = "Held-out loss less the parent's at the same step. Thick: all text; thin: each kind of text."
    return Figure(chart(against_parents(results)), "What interventions change", how)


def _fact(results: Results, run: object, rows: pd.DataFrame) -> Finding:
    spec = results.study.run(str(run))
    assert spec.origin is not None and spec.origin.run is not None  # against_parents has no others
    last = rows[rows["step"] == rows["step"].max()]
    whole = float(last.loc[last["component"] == "all", "difference"].iloc[0])
    parts = last[last["component"] != "all"]
    most = parts.loc[parts["difference"].abs().idxmax()]
    first, end = spec.origin.between
    changed = [f"{spec.origin.transform} in steps {first + 1} to {end}"] if spec.origin.transform else []
    changed += ["its recipe"] if spec.training != results.study.run(spec.origin.run).training else []
    what = " and ".join(changed) or "nothing"
    return Finding(
        id=f"intervention_{spec.name}",
        text=(
            f"{spec.name} goes on from step {spec.origin.step} of {spec.origin.run} and changes {what}. At step "
            f"{last['step'].iloc[0]} its held-out loss is {whole:+.4f} nats per token from its parent's, most on "
            f"{most['component']} ({most['difference']:+.4f})."
        ),
        numbers={
            "step": int(last["step"].iloc[0]),
            "difference": whole,
            "components": dict(zip(parts["component"], parts["difference"].astype(float), strict=True)),
        },
    )


def chart(differences: pd.DataFrame, width: int = 360, height: int = 220) -> Any:
    """Held-out loss less the parent's by step: a panel per run, a line per kind of text, a thick one for all of it."""
    parts = differences[differences["component"] != "all"]
    axes = {
        "x": alt.X("step:Q", title="step", scale=alt.Scale(zero=False)),
        "y": alt.Y("difference:Q", title="difference (nats per token)"),
        "tooltip": ["run:N", "component:N", "step:Q", alt.Tooltip("difference:Q", format="+.4f")],
    }
    panels = []
    for run in dict.fromkeys(differences["run"]):
        kinds = (
            alt.Chart(parts[parts["run"] == run])
            .mark_line(point=True, strokeWidth=1.2)
            .encode(**axes, color=alt.Color("component:N", title="text"))
        )
        whole = alt.Chart(differences[(differences["run"] == run) & (differences["component"] == "all")])
        line = whole.mark_line(strokeWidth=3, color="#15181d", point=True).encode(**axes)
        rule = alt.Chart(pd.DataFrame({"y": [0]})).mark_rule(strokeDash=[2, 3]).encode(y="y:Q")
        panels.append((rule + kinds + line).properties(width=width, height=height, title=theme.panel(run)))
    return alt.concat(*panels, columns=2)
