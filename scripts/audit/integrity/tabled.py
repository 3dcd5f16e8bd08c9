"""Tables, findings and figures against what analysis makes of the results that are here.

Numbers may differ in their last digits, as of another processor. Words, drawings and the choice of columns belong to
the code: they are held against a suite's only where this revision of it made the suite.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as is_of

from scripts.audit.integrity import hashed
from scripts.audit.integrity.found import RESULTS, Folder
from scripts.audit.verdict import Check, guarded, judged
from scripts.common import manifest, untrusted
from scripts.common.errors import UserError
from scripts.common.untrusted import read_parquet, read_text, reading, regular
from scripts.study import paths, targets
from scripts.study.analyses import of_report
from scripts.study.stages import GGUF
from scripts.study.study import Study

MOST = 1 << 30  # bytes of results, unpacked, that tables are made of again
CLOSE = {"rel_tol": 1e-6, "abs_tol": 1e-9}
LINES = 5  # of a table that are told
HASHED = re.compile(r"data-[0-9a-f]{32}")  # altair names data after its digits
KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda kind: is_of.is_string(kind) or is_of.is_large_string(kind),
    "whole": is_of.is_integer,
    "float": is_of.is_floating,
    "truth": is_of.is_boolean,
}
ELSEWHERE = "words, drawings and columns were not compared: other code made this suite, or it is not known which"


def checks(study: Study, folder: Folder) -> list[Check]:
    """All of this module; the others rest on what `check_tables` says."""
    tables = guarded(check_tables, study, folder)
    return [tables, *(guarded(check, study, folder, tables) for check in (check_analyses, check_findings))]


def check_tables(study: Study, folder: Folder) -> Check:
    """Tables hold what analysis makes of the results, in every cell."""
    what = "Tables hold what analysis makes of the results that are here"
    there = [Path(path) for form in ("csv", "parquet") for path in folder.inventory.find(str(paths.table("*", form)))]
    if not there:
        return Check("tables", what, "not applicable", ("there is no table",))
    strict = this_code_made(folder)
    try:
        if (size := sum(map(_unpacked, _sources(study, folder)))) > MOST:
            how = "make them again in a copy: python -m scripts.analyze tables --study results/study.json"
            return Check("tables", what, "not applicable", (f"they are made of {size / 1e9:.1f} GB of results; {how}",))
        with reading("what they are made of"):
            made = _made(study)
    except UserError as error:
        return judged("tables", what, [f"{paths.TABLES}: can't be made again: {error}"], "")
    faults = [f"{path}: the study has no such table" for path in there if strict and path.stem not in made]
    compared = [path for path in there if made.get(path.stem) is not None]
    for path in compared:
        try:
            faults += _unlike_table(path, made[path.stem], strict)
        except UserError as error:
            faults.append(str(error))
    return judged("tables", what, faults, _told(f"{len(compared)} files made again", strict))


def check_analyses(study: Study, folder: Folder, tables: Check) -> Check:
    """Tables of the report's analyses hold what these make of the results; others take long and are not made again."""
    what = "Tables of analyses hold what these make of the results that are here"
    asked = [path for analysis in of_report(study) for path in analysis.files]
    there = list(map(Path, filter(folder.inventory.there, asked)))
    if not there or tables.status != "pass":
        why = "there is no table of an analysis of the report" if not there else "they rest on what did not pass"
        return Check("analyses", what, "not applicable", (why,))
    from scripts.science import make

    strict, faults = this_code_made(folder), list[str]()
    try:
        with reading("what they are made of"):
            again = {name: frame for each in of_report(study) for name, frame in make.made(study, each).items()}
        for path in there:
            faults += _unlike_table(path, again[path.stem], strict)
    except UserError as error:
        faults.append(str(error))
    return judged("analyses", what, faults, _told(f"{len(there)} files made again", strict))


def check_findings(study: Study, folder: Folder, tables: Check) -> Check:
    """Findings and figures say what analysis makes of the tables."""
    what = "Findings and figures show what is in the tables"
    drawn = list(map(Path, folder.inventory.find(str(paths.figure("*")))))
    if not study.trained or not (drawn or paths.FINDINGS.exists()):
        return Check("findings", what, "not applicable", ("there are no findings and figures",))
    # without a table they rest on nothing: `results.load` says so
    unsound = tables.status != "pass" and bool(folder.inventory.names(str(paths.TABLES)))
    if unsound or study.file.evaluation.external:
        why = "tables that did not pass" if unsound else "published scores, which are no part of the suite"
        return Check("findings", what, "not applicable", (f"they rest on {why}",))
    from scripts.report import results
    from scripts.report.figures.figures import makers
    from scripts.report.findings.findings import findings
    from scripts.report.theme import finish

    strict, shown, faults = this_code_made(folder), results.load(study), list[str]()
    if paths.FINDINGS.exists():
        said = [finding.plain() for finding in findings(shown)]
        faults += _unlike_json(paths.FINDINGS, said, (lambda found: found) if strict else _numbers)
    for name, make in makers(study).items():
        if name in targets.figures(study) and (path := paths.figure(name)) in drawn:
            figure = make(shown)
            specification = finish(figure.chart, figure.title, figure.subtitle)
            faults += _unlike_json(path, specification, _named if strict else lambda found: _named(found)["datasets"])
    return judged("findings", what, faults, _told(f"findings and {len(drawn)} figures", strict))


def this_code_made(folder: Folder) -> bool:
    """Whether the suite's records name the revision of the code at hand, and no other."""
    revision = manifest.code_revision()
    if revision is None or revision.endswith("-dirty"):
        return False
    return {untrusted.read_json(path).get("code") for path in hashed.records(folder).values()} == {revision}


def _told(count: str, strict: bool) -> str:
    return count if strict else f"{count}; {ELSEWHERE}"


def _sources(study: Study, folder: Folder) -> Iterator[Path]:
    """What tables are made of, where it is there."""
    of_runs = (f"{paths.checkpoints(run)}/*.jsonl" for run in study.trained)
    for pattern in (*of_runs, *(stage.glob for stage in RESULTS)):
        yield from map(Path, folder.inventory.find(pattern))


def _unpacked(path: Path) -> int:
    with regular(path) as handle, reading(path):  # analysis would read a device for ever
        if path.suffix != ".parquet":
            return os.fstat(handle.fileno()).st_size
        footer = pq.ParquetFile(handle).metadata
        groups = sum(footer.row_group(number).total_byte_size for number in range(footer.num_row_groups))
        total: int = groups + 8 * footer.num_rows * footer.num_columns
        return total


def _made(study: Study) -> dict[str, Any]:
    """Tables by name; None of those that are not of the suite alone: measured, or of scores published elsewhere."""
    from scripts.analyze import export_table, tables

    found: dict[str, Any] = dict(tables.made(study))
    if GGUF.asked(study):
        found["export"] = export_table.text([*export_table.IDENTITY, *export_table.SCORES], export_table.rows(study))
    return {**found, **({"external": None} if study.file.evaluation.external else {})}


def _unlike_table(path: Path, made: Any, strict: bool) -> Iterator[str]:
    """Lines in which a table, CSV or parquet, is not the one made again."""
    text = made if isinstance(made, str) else made.to_csv(index=False, lineterminator="\n")
    if path.suffix == ".csv":
        found = read_text(path, 2 * len(text.encode()) + MOST // 1024)
    else:
        kinds = {
            field.name: kind
            for field in pa.Schema.from_pandas(made, preserve_index=False)
            for kind, of_kind in KINDS.items()
            if of_kind(field.type)
        }
        with regular(path) as handle, reading(path):
            names = pq.read_schema(handle).names
        kinds = {name: kind for name, kind in kinds.items() if strict or name in names}
        table = read_parquet(path, kinds, len(made) + 1)
        found = table.select(list(kinds)).replace_schema_metadata(None).to_pandas().to_csv(index=False)
        text = made[list(kinds)].to_csv(index=False)
    if found != text:
        with reading(path):
            yield from _unlike_lines(path, text, found, strict)


def _unlike_lines(path: Path, text: str, found: str, strict: bool) -> Iterator[str]:
    asked, there = (list(csv.DictReader(io.StringIO(each), strict=True)) for each in (text, found))
    columns, own = (next(csv.reader(io.StringIO(each)), []) for each in (text, found))
    if columns != own and strict:
        yield f"{path}: columns {', '.join(own)}; analysis makes {', '.join(columns)}"
    elif len(asked) != len(there):
        yield f"{path}: {len(there):,} rows, analysis makes {len(asked):,}"
    else:
        shared, told = [name for name in columns if name in own], 0
        for line, (right, row) in enumerate(zip(asked, there, strict=True), start=2):
            for name in shared:
                if not _same(right[name], row[name]) and (told := told + 1) <= LINES:
                    yield f"{path}: line {line}: {name} is {row[name]!r}, analysis makes {right[name]!r}"


def _same(one: Any, other: Any) -> bool:
    if one == other:
        return True
    try:
        return math.isclose(float(one), float(other), **CLOSE)
    except (TypeError, ValueError):
        return False


def _unlike_json(path: Path, made: Any, part: Callable[[Any], Any]) -> Iterator[str]:
    """Where the JSON of a file is not the one made again, in the part that is compared."""
    try:
        with reading(path):
            yield from _differing(part(json.loads(json.dumps(made))), part(untrusted.read_json(path)), str(path))
    except UserError as error:
        yield str(error)


def _differing(made: Any, found: Any, where: str) -> Iterator[str]:
    if isinstance(made, dict) and isinstance(found, dict) and made.keys() == found.keys():
        for key in made:
            yield from _differing(made[key], found[key], f"{where}: {key}")
    elif isinstance(made, list) and isinstance(found, list) and len(made) == len(found):
        for number, (one, other) in enumerate(zip(made, found, strict=True)):
            yield from _differing(one, other, f"{where} [{number}]")
    elif made != found and (isinstance(made, bool | str) or isinstance(found, bool | str) or not _same(made, found)):
        yield f"{where}: {found!r:.200}, made again {made!r:.200}"


def _numbers(findings: Any) -> Any:
    """Of findings what no other wording changes: the numbers of each, and whether it holds."""
    return {found["id"]: {"numbers": found["numbers"], "holds": found.get("holds")} for found in findings}


def _named(specification: Any) -> Any:
    """A figure with its data in the order in which it names them, whatever their names."""
    rest = json.dumps({key: value for key, value in specification.items() if key != "datasets"}, sort_keys=True)
    names = list(dict.fromkeys(HASHED.findall(rest)))
    for number, name in enumerate(names):
        rest = rest.replace(name, f"data-{number}")
    return {**json.loads(rest), "datasets": [specification["datasets"][name] for name in names]}
