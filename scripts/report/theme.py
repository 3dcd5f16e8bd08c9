"""What all figures share: their parts, colours, fonts and scales."""

from __future__ import annotations

from typing import Any, NamedTuple

import altair as alt

from scripts.report.clicks import STEP_TITLE, answering

# light to dark with size; distinct in lightness and hue, so also without colour vision
SIZE_STOPS = ("#c98500", "#d04a3a", "#9c2f80", "#35208a")
CORPUS_COLOURS = ("#0072b2", "#c98500", "#009e73", "#cc79a7", "#3f9bd0", "#d55e00")
# Okabe & Ito (2008), the orange and the light blue darker: on white they stand out by three to one
GREY = "#7d8590"  # of floors, and of lines that join sizes
FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
ZERO_AT = 0.5  # where a logarithmic axis shows step 0

CONFIG: dict[str, Any] = {
    "background": "white",
    "font": FONT,
    "title": {"anchor": "start", "fontSize": 15, "fontWeight": 600, "subtitleFontSize": 12, "offset": 12,
              "subtitlePadding": 5, "subtitleColor": "#555d68", "color": "#15181d"},
    "axis": {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": 500, "gridColor": "#e7e9ee",
             "domainColor": "#9aa1ab", "tickColor": "#9aa1ab", "labelColor": "#4a515b", "titleColor": "#2b3037",
             "titlePadding": 8},
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 600, "symbolStrokeWidth": 2.5,
               "labelColor": "#2b3037", "titleColor": "#2b3037", "orient": "top", "direction": "horizontal",
               "titleOrient": "left", "offset": 16, "columnPadding": 14,
               "layout": {"top": {"anchor": "start", "direction": "horizontal", "margin": 28}}},
    "header": {"labelFontSize": 12, "labelFontWeight": 600, "titleFontSize": 12},
    "view": {"stroke": None},
    "concat": {"spacing": 32},
}  # fmt: skip


class Figure(NamedTuple):
    """A chart, a title that says what it shows, computed from the numbers, and how to read it."""

    chart: Any
    title: str
    subtitle: str


def mix(stops: tuple[str, ...], fraction: float) -> str:
    """The colour at `fraction` (0 .. 1) of the way along hex colours at even distances, linear in RGB."""
    place = fraction * (len(stops) - 1)
    left = min(int(place), len(stops) - 2)
    channels = [[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in stops[left : left + 2]]
    mixed = [round(a + (b - a) * (place - left)) for a, b in zip(*channels, strict=True)]
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def size_colours(sizes: list[Any]) -> list[str]:
    """A colour a size, from small to large."""
    return [mix(SIZE_STOPS, i / max(1, len(sizes) - 1)) for i in range(len(sizes))]


def size_colour(sizes: list[str], *, legend: bool = True) -> alt.Color:
    """Colour by size."""
    scale = alt.Scale(domain=sizes, range=size_colours(sizes))
    return alt.Color("size:N", title="size", scale=scale, sort=sizes, legend=_legend(5) if legend else None)


def sequence(values: list[Any]) -> alt.Scale:
    """Colours of values in order, for lines: each is seen on the page, as none of a map's palest or darkest is."""
    return alt.Scale(domain=values, range=size_colours(values))


def corpus_colour(corpora: list[str], *, legend: bool = True) -> alt.Color:
    """Colour by corpus."""
    colours = [CORPUS_COLOURS[i % len(CORPUS_COLOURS)] for i in range(len(corpora))]
    scale = alt.Scale(domain=corpora, range=colours)
    return alt.Color("corpus:N", title="corpus", scale=scale, sort=corpora, legend=_legend() if legend else None)


def _legend(columns: int = 3) -> alt.Legend:
    """Full colours in the legend, where layers of bands would show through: discs, of lines alone rings."""
    return alt.Legend(symbolOpacity=1, symbolType="circle", symbolStrokeWidth=1.5, columns=columns)


def corpus_dash(corpora: list[str]) -> alt.StrokeDash:
    """Line pattern by corpus: the first is solid."""
    patterns = [[1, 0], [5, 3], [2, 2], [8, 3, 2, 3]]
    scale = alt.Scale(domain=corpora, range=[patterns[i % len(patterns)] for i in range(len(corpora))])
    return alt.StrokeDash("corpus:N", title="corpus", scale=scale, sort=corpora, legend=alt.Legend(symbolSize=160))


def corpus_shape(corpora: list[str]) -> alt.Shape:
    """Shape of points by corpus; its legend joins that of the line patterns."""
    shapes = ["circle", "square", "triangle-up", "cross"]
    scale = alt.Scale(domain=corpora, range=[shapes[i % len(shapes)] for i in range(len(corpora))])
    return alt.Shape("corpus:N", title="corpus", scale=scale, sort=corpora, legend=alt.Legend(symbolSize=160))


def along(chart: Any, per_step: dict[str, dict[str, float]]) -> Any:
    """A whole chart of curves over steps, whose x the reader may switch to what `per_step` names, given by size."""
    return chart.properties(usermeta={"per_step": per_step})


def step_axis(largest: int, *, zero: bool = True) -> alt.X:
    """A logarithmic step axis on field `x`; step 0 stands at `ZERO_AT`."""
    largest = max(1, largest)
    powers = [10**i for i in range(10) if 10**i <= largest]
    ticks = [*([ZERO_AT] if zero else []), *powers]
    if largest > 1.7 * powers[-1]:
        ticks.append(largest)
    label = (
        f"datum.value == {ZERO_AT} ? '0' : datum.value >= 1000 ? format(datum.value / 1000, '~r') + 'k' : datum.value"
    )
    axis = alt.Axis(values=ticks, labelExpr=label, grid=False)
    scale = alt.Scale(type="log", domain=[ticks[0], largest], nice=False)
    return alt.X("x:Q", title=STEP_TITLE, axis=axis, scale=scale)


def parameter_axis(values: list[int]) -> alt.X:
    """A logarithmic axis of non-embedding parameters, with a tick a size."""
    axis = alt.Axis(
        values=values, labelExpr="replace(format(datum.value, '.2~s'), 'G', 'B')", grid=False, labelOverlap=True
    )
    domain = [min(values) / 1.4, max(values) * 1.4]
    scale = alt.Scale(type="log", domain=domain, nice=False)
    return alt.X("non_embedding:Q", title="non-embedding parameters (log)", axis=axis, scale=scale)


def panel(text: str, subtitle: str | list[str] | None = None) -> alt.TitleParams:
    """Title of one panel of a figure, quieter than the figure's."""
    return alt.TitleParams(text=text, subtitle=subtitle or "", subtitleFontSize=11, fontSize=13, offset=8)


def empty(text: str) -> alt.Chart:
    """A panel that says why there is nothing to see."""
    shown = alt.Chart(alt.Data(values=[{"text": text}])).mark_text(fontSize=13, color="#555d68")
    drawn: alt.Chart = shown.encode(text="text:N").properties(width=320, height=80)
    return drawn


def finish(chart: Any, title: str, subtitle: str) -> dict[str, Any]:
    """The Vega-Lite specification with a title and the shared configuration."""
    titled = chart.properties(title=alt.TitleParams(text=title, subtitle=subtitle))
    specification: dict[str, Any] = titled.to_dict()
    return {**answering(specification), "config": CONFIG}  # whole, since altair does not know Vega's legend.layout


def picture(specification: dict[str, Any]) -> str:
    """A finished specification as SVG."""
    import vl_convert

    svg: str = vl_convert.vegalite_to_svg(specification, vl_version=grammar())
    return svg


def grammar() -> str:
    """Vega-Lite's version without its patch number, as vl-convert names it."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
