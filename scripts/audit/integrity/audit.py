"""Audit the integrity of a suite: complete, unaltered, one chain from step 0, what its results belong to.

Reads everything and changes nothing but results/audit/integrity.json, results/audit/distances.csv and
results/suite.lock.json, there or in --out. With --against it verifies a copy, whole or in part, against such a lock,
and writes nothing.
The exit code is 0 if the suite is sound, 1 if a check fails, 2 for a mistake in the command.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.audit import suite_lock
from scripts.audit.integrity.found import look
from scripts.audit.integrity.hashed import artefacts, beside, loaded, sha256_files
from scripts.audit.verdict import Check, plain, show
from scripts.common.errors import UserError, told_last
from scripts.common.files import write_json, write_text
from scripts.study import paths
from scripts.study.study import load

OUT = "--out with a folder you own"  # what to write where the suite's folder can't be written to


def audit(study_file: Path, jobs: int, sample: int | None, out: Path = Path()) -> list[Check]:
    """Check the suite in the working directory, show what came out and write it in `out`."""
    import torch

    from scripts.audit.integrity.checks import integrity
    from scripts.audit.integrity.distances import COLUMNS

    torch.set_num_threads(1)  # the threads are the audit's own
    study = load(study_file)
    found = integrity(study, jobs, sample)
    content = plain(found.checks)
    of = {
        path: digest for path, digest in found.sums.items() if path.endswith(".json") and path != paths.STUDY.as_posix()
    }
    show(f"{study.file.study}, integrity", found.checks)
    with told_last(OUT):
        out.mkdir(parents=True, exist_ok=True)
        os.chdir(out)
        write_text(paths.DISTANCES, csv_text(found.distances, COLUMNS))
        write_json(paths.LOCK, suite_lock.lock_of(study.file.study, content["verdict"], found.sums))
        write_json(paths.INTEGRITY, {"part": "integrity", "study": study.file.study, **content, "of": of})
    return found.checks


def against(lock_file: Path, directory: Path, jobs: int) -> list[Check]:
    """Check the files of a folder against a lock; raises UserError if it is none, or no file of it is there."""
    lock = suite_lock.read(lock_file)
    os.chdir(directory)
    there = [path for path in lock["files"] if Path(path).is_file()]
    sums = sha256_files(there, jobs)
    if unread := [path for path in there if path not in sums]:
        raise UserError(f"{unread[0]}: can't be read; let it be read, or remove it to verify the rest")
    folder = look()
    places = (str(paths.MODELS), str(paths.EXPORTS), *loaded(folder.inventory))
    extra = (path for place in places for path in beside(folder.inventory, place, lock["files"]))
    checks = suite_lock.check_lock(lock, sums, sorted({*artefacts(folder), *extra}))
    show(f"{lock['study']} against {lock_file.name}", checks)
    return checks


def csv_text(rows: list[dict[str, Any]], names: Sequence[str]) -> str:
    """Rows as CSV under the names of their columns, floats in six digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    return text.getvalue()


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, help="what the suite should be (default: results/study.json there)")
    parser.add_argument("--directory", type=Path, default=Path(), help="where the suite lies (default: here)")
    parser.add_argument("--against", type=Path, metavar="LOCK", help="verify the folder against a suite.lock.json")
    parser.add_argument("--out", type=Path, help="folder to write results/ in (default: where the suite lies)")
    parser.add_argument("--sample", type=positive, help="models of each run compared tensor by tensor (default: all)")
    parser.add_argument("--jobs", type=positive, default=len(os.sched_getaffinity(0)), help="threads (default: cores)")
    parser.add_argument("--only-report", action="store_true", help="end with 0 whatever the verdict")
    given = parser.parse_args()
    if not given.directory.is_dir():
        raise UserError(f"--directory: {given.directory} is no folder")
    if given.against:
        checks = against(given.against.resolve(), given.directory, given.jobs)
    else:
        study_file = given.study.resolve() if given.study else paths.STUDY
        out = given.out.resolve() if given.out else Path()
        os.chdir(given.directory)
        checks = audit(study_file, given.jobs, given.sample, out)
    failed = any(check.status == "fail" for check in checks)
    raise SystemExit(1 if failed and not given.only_report else 0)
