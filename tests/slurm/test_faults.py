"""Jobs that fail, are ended, lose their node; a Snakemake that is killed. Every run ends in the undisturbed bytes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.cluster import CPU_NODES, Cluster
from tests.slurm.conftest import LIMIT, Submitted, changed
from tests.slurm.daemons import alive, command, kill, processes, wait_for
from tests.workflow.conftest import ROOT, Workflow
from tests.workflow.hashes import hashes

SEEDS = (1, 2, 3, 4, 5)
STEPS = 1000
FAULTS = {  # what ends the run's first job, and the states in which Slurm knows its jobs afterwards
    "pythia-tiny-seed1": ("killed", ["FAILED", "COMPLETED"]),
    "pythia-tiny-seed2": ("out of time", ["TIMEOUT", "COMPLETED"]),
    "pythia-tiny-seed3": ("cancelled", ["CANCELLED", "COMPLETED"]),
    "pythia-tiny-seed4": ("requeued", ["COMPLETED"]),
    "pythia-tiny-seed5": ("full disk", ["FAILED", "COMPLETED"]),
}
RUNS = list(FAULTS)
FULL = ("disk is full", "No space left")


def longer(content: dict[str, Any]) -> None:
    """Five runs that train long enough to be met in the midst, saving every second or so."""
    content["runs"] = [{"sizes": ["tiny"], "corpora": ["standard"], "seeds": list(SEEDS), "vary": "both"}]
    content["training"]["steps"] = STEPS
    content["data"]["max_epochs"] = 30
    content["runtime"]["save_minutes"] = 0.02


@pytest.fixture(scope="module")
def undisturbed(local: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The five runs, trained here; not to be changed."""
    home = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(local.folder, home / "study")
    shutil.rmtree(home / "study/checkpoints")
    workflow = Workflow(home / "study", changed(home / "study.yaml", longer))
    workflow.succeed("train")
    return workflow


def untrained(undisturbed: Workflow, folder: Path) -> Submitted:
    """The same study before training."""
    shutil.copytree(undisturbed.folder, folder)
    for name in ("checkpoints", "logs/train"):
        shutil.rmtree(folder / name)
    return Submitted(folder, undisturbed.study_file)


def numbers_of(cluster: Cluster, run: str, since: set[str]) -> list[str]:
    """Numbers of a run's jobs, in the order of their submission."""
    return sorted((n for n, (_, what, _) in cluster.jobs().items() if what.endswith(run) and n not in since), key=int)


def in_the_midst(study: Submitted, run: str) -> bool:
    return 50 <= study.steps_done(run) < STEPS


def met(study: Submitted, run: str) -> list[int]:
    """Wait until a run is in the midst of its training, and hold it still there; the processes that `go_on`."""
    wait_for(lambda: in_the_midst(study, run), LIMIT, f"training of {run}")
    return hold(run)


def hold(run: str) -> list[int]:
    found = trainers(run)
    for pid in found:
        kill(pid, signal.SIGSTOP)
    return found


def go_on(held: list[int]) -> None:
    for pid in held:
        kill(pid, signal.SIGCONT)


def command_lines() -> Iterator[tuple[int, list[bytes]]]:
    """Every process with its words."""
    for pid in processes():
        with suppress(FileNotFoundError, ProcessLookupError):
            yield pid, Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def trainers(run: str) -> list[int]:
    """Processes that train a run, the shells and Snakemakes around them not."""
    wanted = {b"scripts.train", b"launch", run.encode()}
    return [pid for pid, words in command_lines() if b"python" in words[0] and wanted <= set(words)]


def submissions() -> list[int]:
    """Processes of Slurm's own sbatch, ours before it not."""
    return [pid for pid, words in command_lines() if words[0] == b"sbatch"]


def target(run: str) -> str:
    return f"checkpoints/{run}/manifest.json"


def same_run(study: Workflow, undisturbed: Workflow, run: str) -> bool:
    """Whether a run has the undisturbed one's bytes."""
    theirs, ours = (
        {name: digest for name, digest in hashes(each.folder).items() if f"/{run}/" in name}
        for each in (undisturbed, study)
    )
    return len(theirs) > 20 and theirs == ours


class Disturbed:
    """A study whose five runs were each disturbed once, in the midst of its first job, and what was seen of it."""

    def __init__(self, cluster: Cluster, study: Submitted) -> None:
        self.cluster, self.study = cluster, study
        self.before = set(cluster.jobs())
        self.said = dict.fromkeys(FAULTS, "")
        self.held: dict[str, list[int]] = {}
        self.filling = study.folder / "checkpoints" / RUNS[-1] / "filling"
        self.disturb: dict[str, Callable[[str, str], object]] = {
            "killed": lambda run, _: list(map(kill, self.held[run])),
            "out of time": lambda _, job: command("scontrol", "update", f"JobId={job}", "EndTime=now"),
            "cancelled": lambda _, job: command("scancel", job),
            "requeued": lambda _, job: command("scontrol", "requeue", job),
            "full disk": lambda *_: fill(self.filling),
        }

    def first_job(self, run: str) -> str:
        return numbers_of(self.cluster, run, self.before)[0]

    def may_go_on(self, run: str) -> bool:
        """One out of time only after Slurm, which looks twice a minute, has seen it."""
        return FAULTS[run][0] != "out of time" or self.cluster.jobs()[self.first_job(run)][0] != "RUNNING"

    def run(self) -> None:
        """Run all; only one run's own folder is on the full disk, for Snakemake needs some bytes to see a failure."""
        waiting = set(FAULTS)
        snakemake = self.study.started("train")
        end = time.monotonic() + LIMIT
        while snakemake.poll() is None:
            assert time.monotonic() < end, self.study.said()
            for run in FAULTS:
                text = self.study.log(run)
                self.said[run] += text if text not in self.said[run] else ""
                if run in waiting and in_the_midst(self.study, run):
                    waiting.remove(run)
                    self.held[run] = hold(run)
                    self.disturb[FAULTS[run][0]](run, self.first_job(run))
                if run in self.held and self.may_go_on(run):
                    go_on(self.held.pop(run))
            if any(words in self.said[RUNS[-1]] for words in FULL):
                self.filling.unlink(missing_ok=True)
            time.sleep(0.2)
        assert snakemake.returncode == 0, self.study.said()
        assert not waiting


@pytest.fixture(scope="module")
def disturbed(cluster: Cluster, undisturbed: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disturbed]:
    study = Disturbed(cluster, untrained(undisturbed, tmp_path_factory.mktemp("disturbed") / "study"))
    place = study.filling.parent
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(place)], check=True)
    study.run()
    yield study
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as handle, suppress(OSError):
        while True:
            handle.write(bytes(1 << 16))


@pytest.mark.parametrize("run", FAULTS, ids=[fault for fault, _ in FAULTS.values()])
def test_a_disturbed_run_comes_again_and_goes_on(disturbed: Disturbed, undisturbed: Workflow, run: str) -> None:
    fault, states = FAULTS[run]
    said = disturbed.said[run]
    assert disturbed.cluster.ends(numbers_of(disturbed.cluster, run, disturbed.before)) == states
    assert ("asked to end; saved at step" in said) == (fault not in ("killed", "full disk"))
    assert any(words in said for words in FULL) == (fault == "full disk")
    assert same_run(disturbed.study, undisturbed, run)


def test_nodes_that_go_down_give_their_jobs_to_another(cluster: Cluster, undisturbed: Workflow, tmp_path: Path) -> None:
    """One loses its power, the other only its slurmd: there the old copy lives, and the new one waits for it. Slurm
    requeues both jobs under their numbers; it can't tell two lives of a job apart, so the lock's silence does."""
    dark, cut = RUNS[:2]
    study, before = untrained(undisturbed, tmp_path / "study"), set(cluster.jobs())
    snakemake = study.started(target(dark), target(cut))
    met(study, dark)
    (old,) = met(study, cut)
    ((first,), (second,)) = numbers = [numbers_of(cluster, run, before) for run in (dark, cut)]
    nodes = [cluster.jobs()[number][2] for number in (first, second)]
    cluster.kill_node(nodes[0], with_jobs=True)
    cluster.kill_node(nodes[1], with_jobs=False)
    try:
        wait_for(lambda: "for a sign of life" in study.log(cut), LIMIT, "second copy")
        done = study.steps_done(cut)
        go_on([old])
        wait_for(lambda: "waiting for its end" in study.log(cut), LIMIT, "word of waiting")
        assert done < STEPS
        assert snakemake.wait(LIMIT) == 0, study.said()
    finally:
        for node in nodes:
            cluster.start_node(node)
    assert numbers == [numbers_of(cluster, run, before) for run in (dark, cut)]
    assert cluster.ends([first, second]) == ["COMPLETED", "COMPLETED"]
    (third,) = set(CPU_NODES) - set(nodes)
    assert {cluster.jobs()[number][2] for number in (first, second)} == {third}
    assert same_run(study, undisturbed, dark) and same_run(study, undisturbed, cut)
    wait_for(lambda: all(cluster.states()[node] == "idle" for node in nodes), 60, "return of the nodes")


def test_a_slurm_that_is_away_loses_no_job(cluster: Cluster, undisturbed: Workflow, tmp_path: Path) -> None:
    """Neither accounting nor the queue answers: to a study that asks the one, to one that asks the other because to it
    the cluster has no accounting, to one that is just being started. It is away until the first two have asked twice in
    vain and the third's sbatch has given up. The first two are in the midst as it begins."""
    studies = {run: untrained(undisturbed, tmp_path / run) for run in RUNS[:3]}
    asks_accounting, asks_queue, late = studies
    before = set(cluster.jobs())
    watched = {
        asks_accounting: studies[asks_accounting].started("--verbose", target(asks_accounting)),
        asks_queue: studies[asks_queue].started(
            "--verbose", target(asks_queue), SLURM_CONF=str(cluster.without_accounting)
        ),
    }
    held = [met(studies[run], run) for run in watched]
    cluster.kill_controller()
    for pids in held:
        go_on(pids)
    tried: set[int] = set()

    def all_have_met_it() -> bool:
        for run, snakemake in watched.items():
            assert snakemake.poll() is None, studies[run].said()
        tried.update(submissions())
        asked = all(studies[run].said().count("could not check status") > 1 for run in (asks_accounting, asks_queue))
        return asked and not all(map(alive, tried))

    watched[late] = studies[late].started("--verbose", target(late))
    try:
        wait_for(all_have_met_it, LIMIT, "vain requests")
    finally:
        cluster.start_controller()
    for run, snakemake in watched.items():
        said = studies[run].said
        assert snakemake.wait(LIMIT) == 0, said()
        assert ("could not check status" in said()) == (run != late)
        assert cluster.ends(numbers_of(cluster, run, before)) == ["COMPLETED"]
        assert same_run(studies[run], undisturbed, run)
    wait_for(lambda: set(cluster.states().values()) == {"idle"}, 60, "idle nodes")


def test_a_submission_whose_answer_was_lost_is_not_made_again(cluster: Cluster, tmp_path: Path) -> None:
    """slurmctld hangs for longer than sbatch waits, and then takes the job."""
    before = set(cluster.jobs())
    sbatch = [str(ROOT / "profiles/slurm/bin/sbatch"), "--parsable", "--job-name", "name", "--comment", "rule_a"]
    sbatch += ["--output", str(tmp_path / "log"), "--wrap=sleep 300"]
    with cluster.held_controller():
        submission = subprocess.Popen(sbatch, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(submissions, 60, "sbatch")
        wait_for(lambda: not submissions(), 60, "end of sbatch")
    number, errors = submission.communicate(timeout=60)
    assert submission.returncode == 0 and "only its answer was lost" in errors
    assert set(cluster.jobs()) - before == {number.strip()}
    command("scancel", number.strip())


def test_after_snakemake_was_killed_the_study_goes_on(cluster: Cluster, undisturbed: Workflow, tmp_path: Path) -> None:
    """The job it left goes on, and a second one is submitted beside it: that waits, or the first was ended before."""
    studies = {run: untrained(undisturbed, tmp_path / run) for run in RUNS[:2]}
    ending = RUNS[1]
    before = set(cluster.jobs())
    left = {run: study.started(target(run)) for run, study in studies.items()}
    held = {run: met(study, run) for run, study in studies.items()}
    first, resumed = {}, {}
    for run, snakemake in left.items():
        (first[run],) = numbers_of(cluster, run, before)
        kill(snakemake.pid)
        snakemake.wait()
        assert cluster.jobs()[first[run]][0] == "RUNNING"
        resumed[run] = studies[run].resumed(*(["--end-jobs"] if run == ending else []), wanted=target(run))

    def named(run: str) -> bool:
        said = studies[run].said("resumed.log")
        assert resumed[run].poll() is None, said
        return "Slurm jobs of the Snakemake that is gone" in said and f"{first[run]}  RUNNING" in said

    for run, pids in held.items():
        wait_for(partial(named, run), LIMIT, "word of the job that was left")
        go_on(pids)
    for run, study in studies.items():
        assert resumed[run].wait(LIMIT) == 0, study.said("resumed.log")
        assert "unlocked; the Snakemake that locked it is gone" in study.said("resumed.log")
        states = cluster.ends(numbers_of(cluster, run, before))
        assert states[0] == ("CANCELLED" if run == ending else "COMPLETED") and states[1:] in (["COMPLETED"], [])
        assert same_run(study, undisturbed, run)
        assert study.planned(target(run)) == {}
