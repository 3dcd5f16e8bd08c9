"""Compare any two checkpoints of a study, or of two: results/compare.html, or a folder with both studies' tables.

python -m scripts.report compare A B: A and B are folders of studies; what is written lies in --out: each table of both
with a column `study`, and the page.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markupsafe import Markup

from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import atomic, read_json, write_text
from scripts.report.pages.environment import rendered
from scripts.study import paths

PAGE = Path(__file__).with_name("compare.html")
TABLES = ("held_out", "evals", "memorization")
Row = dict[str, str]


def comparison_page(title: str, rows: dict[str, list[Row]], *, back: bool = False) -> str:
    """The page's HTML from rows of TABLES; those of several studies have a column `study`. `back`: it lies beside the
    study's first page."""
    names: list[str] = []
    measures: dict[tuple[str, str], int] = {}
    values = []
    for table in TABLES:
        for row in rows.get(table, []):
            name = f"{row['study']}: {row['run']}" if "study" in row else row["run"]
            if name not in names:
                names.append(name)
            measure, value, error = measured(table, row)
            number = measures.setdefault(measure, len(measures))
            values.append([names.index(name), int(row["step"]), number, value, error])
    data = {"runs": names, "measures": list(measures), "values": values}
    text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    return rendered(PAGE, title=title, data=Markup(text), back=back)


def measured(table: str, row: Row) -> tuple[tuple[str, str], float, float | None]:
    """What a row measures (group, name), the value, and its standard error where the table gives one."""
    if table == "held_out":
        return ("held-out loss", row["component"]), _digits(row["loss"]), None
    if table == "evals":
        error = _digits(row["stderr"]) if row["stderr"] else None
        return (f"scores, {row['task_set']}", f"{row['task']}: {row['metric']}"), _digits(row["value"]), error
    seen = "seen" if row["seen"] == "True" else "not seen yet"
    return ("memorized fraction", f"{row['chosen']}, {seen}"), _digits(row["fraction"]), None


def _digits(cell: str) -> float:
    """Six significant digits: more would only make the page longer."""
    return float(f"{float(cell):.6g}")


def read(folder: Path) -> dict[str, list[Row]]:
    """Rows of those of TABLES that a study's folder has."""
    files = {table: folder / paths.table(table) for table in TABLES}
    found = {}
    for table, file in files.items():
        if file.exists():
            with file.open(newline="", encoding="utf-8") as handle:
                found[table] = list(csv.DictReader(handle))
    return found


def both(folders: list[Path]) -> dict[str, list[Row]]:
    """Rows of several studies, each with its study's name: that of its file, or, if they share it, of its folder."""
    names = [_study(folder) for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    together: dict[str, list[Row]] = {}
    for name, folder in zip(names, folders, strict=True):
        for table, rows in read(folder).items():
            together.setdefault(table, []).extend({"study": name, **row} for row in rows)
    return together


def _study(folder: Path) -> str:
    if not any((folder / paths.table(table)).exists() for table in TABLES):
        raise UserError(f"{folder}: no results/tables of a study; make them: make study TARGET=analyze")
    return str(read_json(folder / paths.STUDY)["study"]) if (folder / paths.STUDY).exists() else folder.name


def write(folder: Path, rows: dict[str, list[Row]]) -> Iterator[Path]:
    """Write tables and page of several studies; gives each file."""
    for table, kept in rows.items():
        columns = list(dict.fromkeys(name for row in kept for name in row))
        with atomic(folder / f"{table}.csv") as path, path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)
        yield folder / f"{table}.csv"
    studies = list(dict.fromkeys(row["study"] for kept in rows.values() for row in kept))
    write_text(folder / "compare.html", comparison_page(" and ".join(studies), rows))
    yield folder / "compare.html"


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("studies", type=Path, nargs=2, help="folders of two finished studies")
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="folder to write (default: comparison)")
    given: Any = parser.parse_args()
    print(", ".join(map(str, write(given.out, both(given.studies)))))
