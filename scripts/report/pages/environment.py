"""The one jinja environment of all pages: each extends base.html, and may use the macros of parts.html."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent
MARKS = {True: ("yes", "holds"), False: ("no", "does not hold"), None: ("open", "undecided")}


def rendered(template: Path, **values: Any) -> str:
    """A page's HTML, in one file that opens without a network; its template may lie in any folder."""
    environment = Environment(
        loader=FileSystemLoader([template.parent, HERE]), autoescape=True, undefined=StrictUndefined
    )
    environment.globals |= {"embedded": embedded, "mark": mark, "bundle": bundle, "zip": zip}
    text: str = environment.get_template(template.name).render(**values)
    return text


def embedded(name: str) -> Markup:
    """A style or script of this folder, to be put into a page."""
    return Markup((HERE / name).read_text(encoding="utf-8"))


def bundle() -> Markup:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    import vl_convert

    from scripts.report.theme import grammar

    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", grammar())
    return Markup(script.replace("</script", "<\\/script"))


def mark(finding: dict[str, Any]) -> Markup:
    """The badge of a finding; a plain fact has its own."""
    kind, said = MARKS[finding["holds"]]
    if finding["holds"] is None and finding["expectation"] is None:
        kind, said = "", "fact"
    return Markup('<span class="mark {}">{}</span>').format(kind, said)
