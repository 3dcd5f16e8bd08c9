"""Tell in words what would run for a target and why: what is missing, which settings changed, what follows from that.

A target is a file of the study, a phase (train, evaluate ..) or, if none is given, the whole study. Asks Snakemake's
dry run; changes nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.common.command import seen
from scripts.common.environment import ROOT
from scripts.common.errors import UserError, explain, near
from scripts.common.files import read_json, read_yaml
from scripts.operate.trained import check_orders, check_training
from scripts.operate.why.dry_run import ASKING, Job, told, with_artefacts
from scripts.replay.cost import said
from scripts.study import targets
from scripts.study.fingerprints import Artefacts, everything
from scripts.study.inventory import Inventory
from scripts.study.replayed import asked_for
from scripts.study.stages import CONVERT, OF_MODELS, PHASES
from scripts.study.study import Study, load

LAST_LINES = 15  # of a dry run that failed
REPLAY = "replay_steps"  # rules that train steps again


def snakemake(study: Path, directory: Path, target: str | None, out: Path) -> subprocess.CompletedProcess[str]:
    """A dry run with the local profile's triggers, which writes the jobs that would run to `out`."""
    triggers = read_yaml(ROOT / "profiles/local/profile.yaml")["rerun-triggers"]
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(study)]
    command += ["--directory", str(directory), "--profile", "none", "--cores", "1", "--scheduler", "greedy", "--nolock"]
    command += ["--rerun-incomplete", "--rerun-triggers", *triggers, "--dry-run", "--quiet", "rules", "progress"]
    command += ["--", *([target] if target else [])]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, ASKING: str(out)})


def known_targets(study: Study) -> list[str]:
    """Targets that a mistyped one may have meant."""
    made = [targets.data(study), targets.checkpoints(study), targets.export_tables(study)]
    files = chain(*made, *(stage.files(study) for stage in (CONVERT, *OF_MODELS)))
    return [*PHASES, *dict.fromkeys([*files, *targets.tables(study), *targets.RESULTS])]


def unknown(target: str, known: list[str]) -> UserError:
    """The refusal of a target that no rule makes."""
    return UserError(
        explain("TARGET", target, f"a phase ({', '.join(PHASES)}) or a file of the study", near(target, known))
    )


def dry_run(study: Path, directory: Path, target: str | None, known: list[str]) -> list[Job]:
    """The jobs that would run; raises UserError if no rule makes the target, or if Snakemake refuses."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "jobs.json"
        done = snakemake(study, directory, target, out)
        text = done.stdout + done.stderr
        found = read_json(out) if out.exists() else None
    if target and "MissingRuleException" in text:
        raise unknown(target, known)
    if done.returncode or found is None:
        raise UserError("Snakemake's dry run failed:\n" + "\n".join(text.splitlines()[-LAST_LINES:]))
    if target and not found["graph"]:  # a file that is there and that no rule makes
        raise unknown(target, known)
    return [Job(**job) for job in found["jobs"]]


def refusal(study: Study, directory: Path) -> list[str]:
    """What the workflow's start would refuse, if checkpoints or orders there are of other settings."""
    try:
        check_training(study, directory)
        check_orders(study, directory)
    except UserError as error:
        return ["", "Started like this, the workflow would refuse before its first job:", str(error)]
    return []


def costs(study: Study, directory: Path, jobs: list[Job]) -> list[str]:
    """What the training of steps that were not saved takes, by the speed of their runs."""
    asked = [path for job in jobs if job.rule.startswith(REPLAY) for path in job.outputs]
    found = asked_for(study, asked, Inventory(directory))
    return ["", *said(study, (stretch.interval for stretch in found), directory).splitlines()] if asked else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", metavar="TARGET", help="file or phase (default: the whole study)")
    parser.add_argument("--study", type=Path, required=True, help="study file, or results/study.json")
    parser.add_argument("--directory", type=Path, default=Path(), help="where the study is made (default: here)")
    given = parser.parse_args()
    given.study = seen(given.study, given.directory)
    study = load(given.study)
    jobs = dry_run(given.study, given.directory, given.target, known_targets(study))
    other = Artefacts(study, given.directory, texts=True).stale(everything(study))
    lines = told(given.target or f"the {study.file.study} study", [with_artefacts(job, other) for job in jobs])
    print("\n".join([*lines, *costs(study, given.directory, jobs), *refusal(study, given.directory)]))
