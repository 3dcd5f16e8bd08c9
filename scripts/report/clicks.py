"""What a figure answers to: a click on a legend filters what is drawn, a choice below a curve switches its x axis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import ceil, floor, log10
from typing import Any

Specification = dict[str, Any]
LEGENDS = ("color", "strokeDash", "shape")
PARTS = ("layer", "concat", "hconcat", "vconcat")
ALONG = "along"  # what x is: step, tokens or FLOPs
STEP_TITLE = "step (log)"
LABELS = {"tokens": "format(datum.value, '~s')", "FLOPs": "'1e' + round(log(datum.value) / LN10)"}


def answering(specification: Specification) -> Specification:
    """A whole specification that answers to clicks, in place.

    A chart whose `usermeta` holds `per_step` ({"tokens": {size: tokens per step}, ..}) can be drawn along each of them.
    """
    per_step = specification.pop("usermeta", {}).get("per_step")
    views = [list(view) for view in _views(specification)]
    selections: list[Specification] = []
    for field in sorted({name for view in views for unit in view for name in _legends(unit)}):
        names: list[str] = []
        for view in views:
            bearing = next((unit for unit in view if field in _legends(unit)), None)
            if bearing is not None:
                names.append(bearing.setdefault("name", f"view-{len(selections)}-{len(names)}"))
        for unit in (unit for view in views for unit in view if field in _fields(unit)):
            unit.setdefault("transform", []).append({"filter": {"param": f"only_{field}"}})
        select = {"type": "point", "fields": [field]}
        selections.append({"name": f"only_{field}", "select": select, "bind": "legend", "views": names})
    if per_step:
        selections.append(_switched([unit for view in views for unit in view], per_step))
    return {**specification, "params": selections} if selections else specification


def _views(part: Specification) -> Iterator[Iterator[Specification]]:
    """The units of each panel: those layered on one another together."""
    if "mark" in part or "layer" in part:
        yield _units(part)
    for inner in (
        *(each for key in PARTS[1:] for each in part.get(key, [])),
        *([part["spec"]] if "spec" in part else []),
    ):
        yield from _views(inner)


def _units(part: Specification) -> Iterator[Specification]:
    if "mark" in part:
        yield part
    for inner in part.get("layer", []):
        yield from _units(inner)


def _channels(unit: Specification) -> Iterator[tuple[str, Specification]]:
    """Channels and what each encodes; those of several fields (detail, tooltip) several times."""
    for channel, encoded in unit.get("encoding", {}).items():
        for each in encoded if isinstance(encoded, list) else [encoded]:
            yield channel, each


def _fields(unit: Specification) -> set[str]:
    return {str(encoded["field"]) for _, encoded in _channels(unit) if "field" in encoded}


def _legends(unit: Specification) -> set[str]:
    """Fields of names that the unit has a legend of."""
    return {
        str(encoded["field"])
        for channel, encoded in _channels(unit)
        if channel in LEGENDS and encoded.get("type") == "nominal" and encoded.get("legend", {}) is not None
    }


def _switched(units: list[Specification], per_step: dict[str, dict[str, float]]) -> Specification:
    """Let x be what the reader chooses: every x on a step axis, of units that say the size."""
    curves = [unit for unit in units if unit["encoding"].get("x", {}).get("title") == STEP_TITLE]
    for unit in curves:
        x = unit["encoding"]["x"]
        factors = {name: f"{json.dumps(by_size)}[datum.size]" for name, by_size in per_step.items()}
        factor = " : ".join(f"{ALONG} == '{name}' ? {factor}" for name, factor in factors.items())
        unit.setdefault("transform", []).append({"calculate": f"datum.{x['field']} * ({factor} : 1)", "as": "along_x"})
        first, last = x["scale"].pop("domain")
        ends = {"step": [first, last]}
        ticks = {"step": x["axis"]["values"]}
        for name, by_size in per_step.items():
            ends[name] = [first * min(by_size.values()), last * max(by_size.values())]
            ticks[name] = _powers(*ends[name])
        for bound, place in (("domainMin", 0), ("domainMax", 1)):
            x["scale"][bound] = {"expr": f"{json.dumps(ends)}[{ALONG}][{place}]"}
        labels = " : ".join(f"{ALONG} == '{name}' ? {LABELS[name]}" for name in per_step)
        x["field"] = "along_x"
        x["axis"] |= {
            "values": {"expr": f"{json.dumps(ticks)}[{ALONG}]"}, "labelExpr": f"{labels} : {x['axis']['labelExpr']}",
            "labelOverlap": True,
        }  # fmt: skip
    chosen = {"input": "radio", "options": ["step", *per_step], "name": "x: "}
    return {"name": ALONG, "value": "step", "bind": chosen}


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`."""
    return [10.0**power for power in range(ceil(log10(low)), floor(log10(high)) + 1)]
