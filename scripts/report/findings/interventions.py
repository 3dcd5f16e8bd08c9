"""What interventions changed: their runs beside their parents, step by step."""

from __future__ import annotations

import pandas as pd

from scripts.report.findings.finding import Finding
from scripts.report.results import Results

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


def all_interventions(results: Results) -> list[Finding]:
    """A fact for each intervention's run: by how much it ends apart from its parent."""
    table = against_parents(results)
    return [_fact(results, run, rows) for run, rows in table.groupby("run", sort=False)]


def _fact(results: Results, run: object, rows: pd.DataFrame) -> Finding:
    spec = results.study.run(str(run))
    assert spec.origin is not None and spec.origin.run is not None  # against_parents has no others
    last = rows[rows["step"] == rows["step"].max()]
    whole = float(last.loc[last["component"] == "all", "difference"].iloc[0])
    parts = last[last["component"] != "all"]
    most = parts.loc[parts["difference"].abs().idxmax()]
    first, end = spec.origin.between
    changed = [f"{spec.origin.transform} in updates {first + 1} to {end}"] if spec.origin.transform else []
    changed += ["its recipe"] if spec.training != results.study.run(spec.origin.run).training else []
    what = " and ".join(changed) or "nothing"
    return Finding(
        id=f"intervention_{spec.name}",
        text=(
            f"{spec.name} goes on from step {spec.origin.step} of {spec.origin.run} and changes {what}. At step "
            f"{last['step'].iloc[0]} its held-out loss is {whole:+.4f} nats a token from its parent's, most on "
            f"{most['component']} ({most['difference']:+.4f})."
        ),
        numbers={
            "step": int(last["step"].iloc[0]),
            "difference": whole,
            "components": dict(zip(parts["component"], parts["difference"].astype(float), strict=True)),
        },
    )
