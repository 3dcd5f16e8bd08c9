"""Tell what of a study is done, running, failed or missing: a grid of sizes and seeds, and each run that is under way.

Reads manifests, the jobs' logs and their locks, and changes nothing but results/status.html. The exit code is 0 if
everything is there, 1 if something is not, 2 if the study file is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts.common.command import seen
from scripts.common.errors import UserError, told_last
from scripts.common.files import write_text
from scripts.common.units import brief
from scripts.operate.status.chosen import chosen
from scripts.operate.status.found import Folder
from scripts.operate.status.page import status_page
from scripts.operate.status.stages import Batches, labels, of_stage, train
from scripts.operate.status.states import RunStatus, StageStatus, State, Status, by_count
from scripts.operate.status.text import show
from scripts.replay.kept import beside_schedule, told
from scripts.study import paths, targets
from scripts.study.fingerprints import of_data
from scripts.study.runs import BASE_SEED, Run, run_name
from scripts.study.stages import OF_EVERY_RUN
from scripts.study.study import Study, load

PASSING = ("sources", "documents", "pairs", "external")  # below data/: what corpora are made of, and may be deleted
READERS = 8  # threads; on a shared file system a look-up mostly waits


def gather(study: Study, root: Path, now: float) -> Status:
    """The state of everything the study asks for in `root`; `now` in seconds since the epoch."""
    folder = Folder(study, root, now)
    batches = {stage.name: labels(study, stage) for stage in OF_EVERY_RUN if stage.batched}
    by_size = sorted(study.runs.values(), key=lambda run: run.size.non_embedding_parameters)
    with ThreadPoolExecutor(READERS) as pool:
        runs = list(pool.map(lambda run: run_status(study, run, folder, batches), by_size))
    beside = told(list(beside_schedule(study, folder.inventory)))
    return Status(study.file.study, runs, data(study, folder), chosen(study, folder), results(study, folder), beside)


def run_status(study: Study, run: Run, folder: Folder, batches: dict[str, Batches]) -> RunStatus:
    """All stages of one run; `batches` by stage."""
    name = run.name
    later = [of_stage(study, stage, name, folder, batches[stage.name]) for stage in OF_EVERY_RUN if stage.batched]
    stages = [train(study, name, folder), *later]
    row, column = place(study, run)
    return RunStatus(name, run.corpus, row, column, follow(stages))


def follow(stages: list[StageStatus]) -> list[StageStatus]:
    """The stages, where what was made from stale checkpoints is stale too."""
    first, *later = stages
    if first.state is not State.STALE:
        return stages
    return [first] + [
        StageStatus(s.name, State.STALE, s.found, s.expected, ["made from these checkpoints"]) if s.found else s
        for s in later
    ]


def place(study: Study, run: Run) -> tuple[str, str]:
    """Row and column of a run: its size, with what else sets its name apart, and its seed."""
    data_only, weight_only = run.init_seed == BASE_SEED, run.data_seed == BASE_SEED
    vary = "both" if data_only == weight_only else "data" if data_only else "weight"
    seed = run.data_seed if vary == "data" else run.init_seed
    size = study.file.names.get(run.size.name, run.size.name)
    rest = run.name.removeprefix(run_name(study.file.family, size, run.corpus, seed, vary)).strip("-")
    return f"{size} {rest}".strip(), str(seed) if vary == "both" else f"{vary} {seed}"


def data(study: Study, folder: Folder) -> StageStatus:
    """Corpora, orders, held-out text, tokenizer and tasks."""
    needed = [path for path in of_data(study) if path.split("/")[1] not in PASSING]
    found = set(filter(folder.inventory.there, needed))
    stale = [f"{path}: {'; '.join(brief(why))}" for path, why in folder.inventory.stale(of_data(study)).items()]
    if stale:
        return StageStatus("data", State.STALE, len(found), len(needed), brief(stale))
    return _counted("data", needed, found)


def results(study: Study, folder: Folder) -> StageStatus:
    """Tables, figures' pages, the report, the model cards and the provenance."""
    asked = [*targets.tables(study), *targets.results(study), *targets.cards(study), *targets.provenance(study)]
    return _counted("results", asked, set(filter(folder.inventory.there, asked)))


def _counted(name: str, asked: list[str], found: set[str]) -> StageStatus:
    missing = [f"{path} is missing" for path in asked if path not in found]
    return StageStatus(name, by_count(len(found), len(asked)), len(found), len(asked), brief(missing))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, required=True, help="study file, or results/study.json")
    parser.add_argument("--directory", type=Path, default=Path(), help="where the study is made (default: here)")
    parser.add_argument("--out", type=Path, help=f"where the page goes (default: {paths.page('status')} there)")
    parser.add_argument("--json", action="store_true", help="print JSON instead, and write no page")
    given = parser.parse_args()
    given.study = seen(given.study, given.directory)
    now = time.time()
    status = gather(load(given.study), given.directory, now)
    if given.json:
        print(json.dumps(status.as_json(), indent=1))
    else:
        show(status)
        page = given.out or given.directory / paths.page("status")
        try:
            with told_last("--out with a file in a folder you own"):
                write_text(page, status_page(status, time.strftime("%Y-%m-%d %H:%M", time.localtime(now))))
            print(f"\nThe page: {page}")
        except UserError as error:  # who may only read needs no page
            if given.out:
                raise
            print(f"\n{error}", file=sys.stderr)
    raise SystemExit(0 if status.complete else 1)
