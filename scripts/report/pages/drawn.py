"""What pages show of results: figures with their captions, findings with what they were measured by, tables as CSV."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from scripts.common.errors import UserError
from scripts.common.files import read_json
from scripts.study import paths, targets

SHOWN_BY = {  # figure and table of findings that don't name theirs, by how their id begins; the first that fits
    "loss_falls": ("held_out_size", "held_out"),
    "seeds_matter": ("held_out_size", "runs"),
    "deduplication_and_loss": ("held_out_size", "runs"),
    "deduplication_and_scores": ("paired", "paired_effects"),
    "deduplication_reduces_memorization": ("memorization_size", "memorization"),
    "deduplication_removed": ("corpora", "corpora"),
    "same_order": ("", "runs"),
    "components": ("held_out_component", "held_out"),
    "largest_learned": ("held_out_step", "held_out"),
    "untrained_loss": ("held_out_step", "held_out"),
    "first_step": ("held_out_step", "held_out"),
    "scores_rise": ("paired", "paired_effects"),
    "scores": ("evals", "evals"),
    "small_models_at_chance": ("evals", "evals"),
    "floors": ("evals", "evals"),
    "constant_answers": ("evals_heat", "evals"),
    "memorization_grows_with_size": ("memorization_size", "memorization"),
    "memorization_scaling": ("memorization_size", "memorization_fits"),
    "memorization": ("memorization_step", "memorization"),
    "unseen_sequences": ("memorization_seen", "memorization"),
    "repeated_text": ("memorization_groups", "memorization_groups"),
    "canaries": ("memorization_canaries", "memorization_groups"),
    "small_predicts": ("memorization_predict", "memorization_pairs"),
    "early_predicts": ("memorization_predict", "memorization_pairs"),
    "training_order": ("memorization_order", "memorization_order"),
    "intervention": ("interventions", "held_out"),
}
ROWS_AT_MOST = 200  # of a table on a page; its file has all
UNSHOWN = ["non_embedding", "init_seed", "data_seed", "intervention", "tokens"]  # columns a run's name stands for
WIDE = 40  # characters of a cell from which its column may break lines


def figure(name: str, path: Path | None = None) -> dict[str, Any]:
    """A figure for the macros of parts.html, its specification at `path` or with the report's; raises UserError if it
    is missing."""
    specification = read_json(present(path or paths.figure(name)))
    # "</" would end the script element that holds it
    text = json.dumps(specification, sort_keys=True, separators=(",", ":")).replace("</", "<\\/")
    return {"name": name, "caption": caption(name), "specification": Markup(text)}


def caption(name: str) -> Markup:
    """A figure's caption, from the one source that Snakemake's report reads too; none if it has only that of all."""
    if targets.caption(name).stem != name:
        return Markup()
    text = " ".join(targets.caption(name).read_text(encoding="utf-8").split())
    parts = text.split("``")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part) for index, part in enumerate(parts)
    )


def finding(found: dict[str, Any], places: dict[str, str]) -> dict[str, Any]:
    """A finding with `measured`, its effect in words, and `links` to its figure and table. `places`: the page that
    shows a figure, by the figure's name."""
    usual = next((shown for begin, shown in SHOWN_BY.items() if found["id"].startswith(begin)), ("", ""))
    drawn, table = found.get("figure") or usual[0], found.get("table") or usual[1]
    links = [(f"{places[drawn]}#figure-{drawn}", "figure")] if drawn in places else []
    if table and (file := table_file(table)):
        links.append((file.relative_to(paths.RESULTS).as_posix(), "table"))
    return {"check": False, **found, "measured": measured(found), "links": links}


def measured(found: dict[str, Any]) -> str:
    """Effect, interval and the seed's yardstick of a finding, as far as it has them."""
    effect, interval, seed = (found.get(name) for name in ("effect", "interval", "yardstick"))
    unit = f" {found['unit']}" if found.get("unit") else ""
    told = [f"Effect {effect:+.3g}{unit}"] if effect is not None else []
    told += [f"95 % interval {interval[0]:+.3g} to {interval[1]:+.3g}"] if interval and None not in interval else []
    told += [f"another seed {seed:+.3g}"] if seed is not None else []
    return "; ".join(told) + "." if told else ""


def table_file(name: str) -> Path | None:
    """The CSV of a table of the study or of its science, if it is there."""
    files = [paths.table(name), paths.science(name)]
    return next((file for file in files if file.exists()), None)


def science_table(name: str) -> dict[str, Any] | None:
    """A table of an analysis for the macro of parts.html, cut to `ROWS_AT_MOST`; None if it was not made."""
    if not (file := paths.science(name)).exists():
        return None
    import pandas as pd

    from scripts.analyze import tables

    frame = tables.read(name, paths.science).drop(columns=UNSHOWN, errors="ignore")
    kinds = [_kind(column) for _, column in frame.items()]
    rows = [["" if pd.isna(cell) else _cell(cell) for cell in row] for row in frame.head(ROWS_AT_MOST).to_numpy(object)]
    return {
        "name": name,
        "columns": [(str(title).replace("_", " "), kind) for title, kind in zip(frame, kinds, strict=True)],
        "rows": rows,
        "left": max(0, len(frame) - ROWS_AT_MOST),
        "file": file.relative_to(paths.RESULTS).as_posix(),
    }


def _kind(column: Any) -> bool | str:
    """A column's kind for the macro: numbers, text that may break lines, or other."""
    if column.dtype.kind in "iuf":
        return True
    return "wide" if column.astype(str).str.len().max() > WIDE else False


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def present(path: Path) -> Path:
    """The path; raises UserError if nothing is there."""
    if not path.exists():
        raise UserError(f"{path}: missing; the page is made from it")
    return path
