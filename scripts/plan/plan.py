"""Tell what a study will take before its first job: parameters, tokens, FLOPs, device-hours, wall time, bytes by the
study's retention, jobs and cost. In the folder of a finished study, the plan stands beside what was measured.

Reads the study file and the table of devices; needs no torch. Writes results/plan.json and results/plan.html.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from scripts.common.command import seen
from scripts.common.errors import UserError
from scripts.common.files import write_json, write_text
from scripts.plan.costs import make_plan
from scripts.plan.measured import compare
from scripts.plan.page import plan_page
from scripts.plan.text import show
from scripts.study import paths
from scripts.study.devices import TABLE, choose, read_devices
from scripts.study.study import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, required=True, help="study file, or results/study.json")
    parser.add_argument("--device", help="a name in the table of devices (default: the first of runtime.device)")
    parser.add_argument("--table", type=Path, default=TABLE, help="table of devices (default: profiles/devices.yaml)")
    parser.add_argument("--gpus", type=int, help="devices of each run (default: as Pythia's size had)")
    parser.add_argument("--price", type=float, help="of one device for one hour, in any currency")
    parser.add_argument("--directory", type=Path, default=Path(), help="where the study is or will be made")
    given = parser.parse_args()
    given.study = seen(given.study, given.directory)
    for option, value in (("--gpus", given.gpus), ("--price", given.price)):
        if value is not None and value <= 0:
            raise UserError(f"{option}: {value} is not allowed\n  allowed: more than 0")
    study, table = load(given.study), read_devices(given.table)
    name = choose(table, given.device, study.file.runtime.device)
    plan = make_plan(study, name, table[name], given.gpus, given.price)
    comparison = compare(study, plan, given.directory)
    folder = given.directory / paths.RESULTS
    write_json(folder / "plan.json", plan.as_json() | {"measured": [asdict(row) for row in comparison.rows]})
    write_text(folder / "plan.html", plan_page(plan, comparison))
    show(plan, comparison, folder / "plan.html")
