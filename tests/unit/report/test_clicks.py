"""What figures answer to: legends that filter, an x axis that switches."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import altair as alt
import pandas as pd
import pytest
import vl_convert

from scripts.report import theme

SIZES, CORPORA = ["a", "b"], ["standard", "deduped"]
PER_STEP = {"tokens": {"a": 512.0, "b": 512.0}, "FLOPs": {"a": 1e6, "b": 4e6}}


def curves(panels: int) -> Any:
    rows = [{"size": size, "corpus": corpus, "x": x, "y": x + len(size)} for size in SIZES for corpus in CORPORA
            for x in (0.5, 1, 10, 800)]  # fmt: skip
    base = alt.Chart(pd.DataFrame(rows)).encode(x=theme.step_axis(800), y="y:Q", color=theme.size_colour(SIZES))
    line = base.mark_line().encode(strokeDash=theme.corpus_dash(CORPORA))
    rule = alt.Chart(pd.DataFrame([{"y": 1}])).mark_rule().encode(y="y:Q")
    return alt.concat(*[alt.layer(base.mark_point(), line, rule) for _ in range(panels)])


def units(specification: dict[str, Any]) -> list[dict[str, Any]]:
    return [unit for panel in specification["concat"] for unit in panel["layer"]]


@pytest.mark.parametrize("panels", [1, 2])
def test_a_legend_filters_whatever_says_its_field_and_nothing_else(panels: int) -> None:
    made = theme.finish(curves(panels), "title", "")
    bound = {each["name"]: each for each in made["params"]}
    assert set(bound) == {"only_size", "only_corpus"}
    assert all(each["bind"] == "legend" and len(each["views"]) == panels for each in bound.values())
    named = {unit["name"] for unit in units(made) if "name" in unit}
    assert named == {name for each in bound.values() for name in each["views"]}
    filters = [[part["filter"]["param"] for part in unit.get("transform", [])] for unit in units(made)]
    assert filters == [["only_size"], ["only_corpus", "only_size"], []] * panels
    assert "Duplicate" not in vl_convert.vegalite_to_svg(made, vl_version=theme.grammar())


def test_x_can_be_switched_where_a_step_of_each_size_is_known() -> None:
    made = theme.finish(theme.along(curves(1), PER_STEP), "title", "")
    assert "usermeta" not in made
    choice = made["params"][-1]
    assert choice["value"] == "step" and choice["bind"]["options"] == ["step", "tokens", "FLOPs"]
    x = units(made)[0]["encoding"]["x"]
    assert x["field"] == "along_x" and "domain" not in x["scale"]
    ends = x["scale"]["domainMax"]["expr"]
    assert (
        '"step": [0.5, 800]' in ends
        and '"tokens": [256.0, 409600.0]' in ends
        and '"FLOPs": [500000.0, 3200000000.0]' in ends
    )
    alt.Chart.from_dict({**made, "config": {}})
    before = vl_convert.vegalite_to_svg(theme.finish(curves(1), "title", ""), vl_version=theme.grammar())
    after = vl_convert.vegalite_to_svg(made, vl_version=theme.grammar())
    assert [part for part in after.split("<path ") if "mark-line" in part or "stroke-dasharray" in part] == [
        part for part in before.split("<path ") if "mark-line" in part or "stroke-dasharray" in part
    ]


def test_a_figure_without_legends_stays_as_it_was() -> None:
    assert "params" not in theme.finish(theme.empty("nothing"), "title", "")


def lightness(colour: str) -> float:
    """CIE L* of a colour in hex."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    luminance = sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return float(116 * luminance ** (1 / 3) - 16)


@pytest.mark.parametrize(("sizes", "least"), [(3, 15.0), (10, 2.9)])
def test_sizes_are_told_apart_in_grey(sizes: int, least: float) -> None:
    """Neighbours of the default study's three and of Pythia's ten: darker with size, by so much of 100."""
    grey = [lightness(colour) for colour in theme.size_colours([str(number) for number in range(sizes)])]
    assert all(one - other >= least for one, other in pairwise(grey)), grey
