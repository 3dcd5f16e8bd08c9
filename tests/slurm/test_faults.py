"""Jobs that fail, are ended, lose their node; a Snakemake that is killed. Every run ends in the undisturbed bytes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.cluster import CPU_NODES, Cluster
from tests.slurm.conftest import LIMIT, Submitted, changed
from tests.slurm.daemons import command, kill, processes, wait_for
from tests.workflow.conftest import Workflow
from tests.workflow.hashes import hashes

SEEDS = (1, 2, 3, 4)
STEPS = 3000
FAULTS = {  # what ends the run's first job, and the states in which Slurm knows its jobs afterwards
    "pythia-tiny-seed1": ("killed", ["FAILED", "COMPLETED"]),
    "pythia-tiny-seed2": ("out of time", ["TIMEOUT", "COMPLETED"]),
    "pythia-tiny-seed3": ("cancelled", ["CANCELLED", "COMPLETED"]),
    "pythia-tiny-seed4": ("requeued", ["COMPLETED"]),
}
RUN = "pythia-tiny-seed1"


def longer(content: dict[str, Any]) -> None:
    """Four runs that train long enough to be met in the midst, saving every second or so."""
    content["runs"] = [{"sizes": ["tiny"], "corpora": ["standard"], "seeds": list(SEEDS), "vary": "both"}]
    content["training"]["steps"] = STEPS
    content["data"]["max_epochs"] = 90
    content["runtime"]["save_minutes"] = 0.02


@pytest.fixture(scope="module")
def undisturbed(local: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The four runs, trained here; not to be changed."""
    home = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(local.folder, home / "study")
    shutil.rmtree(home / "study/checkpoints")
    workflow = Workflow(home / "study", changed(home / "study.yaml", longer))
    workflow.succeed("train")
    return workflow


@pytest.fixture
def fresh(cluster: Cluster, undisturbed: Workflow, tmp_path: Path) -> Submitted:
    """The same study before training."""
    return untrained(undisturbed, tmp_path / "study")


def untrained(undisturbed: Workflow, folder: Path) -> Submitted:
    shutil.copytree(undisturbed.folder, folder)
    for name in ("checkpoints", "logs/train"):
        shutil.rmtree(folder / name)
    return Submitted(folder, undisturbed.study_file)


def numbers_of(cluster: Cluster, run: str, since: set[str]) -> list[str]:
    """Numbers of a run's jobs, in the order of their submission."""
    return sorted((n for n, (_, what, _) in cluster.jobs().items() if what.endswith(run) and n not in since), key=int)


def in_the_midst(study: Submitted, run: str) -> bool:
    return 50 <= study.steps_done(run) < STEPS


def met(study: Submitted, run: str) -> None:
    """Wait until a run is in the midst of its training."""
    wait_for(lambda: in_the_midst(study, run), LIMIT, f"training of {run}")


def trainers(run: str) -> list[int]:
    """Processes that train a run, the shells and Snakemakes around them not."""
    found = []
    for pid in processes():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"python" in words[0] and b"scripts.train" in words and b"launch" in words and run.encode() in words:
            found.append(pid)
    return found


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
    """A study whose four runs were each disturbed once, and what was seen of it."""

    def __init__(self, cluster: Cluster, study: Submitted) -> None:
        self.cluster, self.study = cluster, study
        self.before = set(cluster.jobs())
        self.said = dict.fromkeys(FAULTS, "")
        self.held: dict[int, str] = {}
        self.disturb: dict[str, Callable[[str, str], object]] = {
            "killed": lambda run, _: [kill(pid) for pid in trainers(run)],
            "out of time": self.let_run_out,
            "cancelled": lambda _, job: command("scancel", job),
            "requeued": lambda _, job: command("scontrol", "requeue", job),
        }

    def let_run_out(self, run: str, job: str) -> None:
        """Hold the run still until Slurm, which looks twice a minute, has seen that its time is over."""
        (pid,) = trainers(run)
        kill(pid, signal.SIGSTOP)
        command("scontrol", "update", f"JobId={job}", "EndTime=now")
        self.held[pid] = job

    def run(self) -> None:
        """Run all, meeting every run in the midst of its first job."""
        waiting = dict(FAULTS)
        snakemake = self.study.started("train")
        end = time.monotonic() + LIMIT
        while snakemake.poll() is None:
            assert time.monotonic() < end, (self.study.folder / "snakemake.log").read_text()
            for run in FAULTS:
                text = self.study.log(run)
                self.said[run] += text if text not in self.said[run] else ""
                if run in waiting and in_the_midst(self.study, run):
                    fault, _ = waiting.pop(run)
                    self.disturb[fault](run, numbers_of(self.cluster, run, self.before)[0])
            for pid, job in list(self.held.items()):
                if self.cluster.jobs()[job][0] != "RUNNING":
                    kill(pid, signal.SIGCONT)
                    del self.held[pid]
            time.sleep(0.05)
        assert snakemake.returncode == 0, (self.study.folder / "snakemake.log").read_text()
        assert not waiting


@pytest.fixture(scope="module")
def disturbed(cluster: Cluster, undisturbed: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    study = Disturbed(cluster, untrained(undisturbed, tmp_path_factory.mktemp("disturbed") / "study"))
    study.run()
    return study


@pytest.mark.parametrize("run", FAULTS, ids=[fault for fault, _ in FAULTS.values()])
def test_a_disturbed_run_comes_again_and_goes_on(disturbed: Disturbed, undisturbed: Workflow, run: str) -> None:
    fault, states = FAULTS[run]
    assert disturbed.cluster.ends(numbers_of(disturbed.cluster, run, disturbed.before)) == states
    assert ("asked to end; saved at step" in disturbed.said[run]) == (fault != "killed")
    assert same_run(disturbed.study, undisturbed, run)


def test_a_node_that_goes_down_gives_its_job_to_another(
    cluster: Cluster, fresh: Submitted, undisturbed: Workflow
) -> None:
    """Slurm requeues the job under its number; Slurm can't tell its two lives apart, so the lock's silence does."""
    before = set(cluster.jobs())
    snakemake = fresh.started(target(RUN))
    met(fresh, RUN)
    (number,) = numbers_of(cluster, RUN, before)
    node = cluster.jobs()[number][2]
    cluster.kill_node(node, with_jobs=True)
    try:
        assert snakemake.wait(LIMIT) == 0, (fresh.folder / "snakemake.log").read_text()
    finally:
        cluster.start_node(node)
    assert cluster.ends([number]) == ["COMPLETED"]
    assert cluster.jobs()[number][2] == next(name for name in CPU_NODES if name != node)
    assert same_run(fresh, undisturbed, RUN)
    wait_for(lambda: cluster.states()[node] == "idle", 60, "return of the node")


def test_a_job_requeued_while_its_old_copy_runs_waits_for_it(
    cluster: Cluster, fresh: Submitted, undisturbed: Workflow
) -> None:
    """The node's slurmd is lost, its processes are not."""
    before = set(cluster.jobs())
    snakemake = fresh.started(target(RUN))
    met(fresh, RUN)
    (number,) = numbers_of(cluster, RUN, before)
    node = cluster.jobs()[number][2]
    (old,) = trainers(RUN)
    kill(old, signal.SIGSTOP)  # it shall still be there when the new copy comes
    cluster.kill_node(node, with_jobs=False)
    try:
        wait_for(lambda: "for a sign of life" in fresh.log(RUN), LIMIT, "second copy")
        done = fresh.steps_done(RUN)
        kill(old, signal.SIGCONT)
        wait_for(lambda: "waiting for its end" in fresh.log(RUN), LIMIT, "word of waiting")
        assert done < STEPS
        assert snakemake.wait(LIMIT) == 0, (fresh.folder / "snakemake.log").read_text()
    finally:
        cluster.start_node(node)
    assert cluster.ends([number]) == ["COMPLETED"]
    assert same_run(fresh, undisturbed, RUN)
    wait_for(lambda: cluster.states()[node] == "idle", 60, "return of the node")


def test_a_slurm_that_is_away_for_a_minute_loses_no_job(
    cluster: Cluster, undisturbed: Workflow, tmp_path: Path
) -> None:
    """Neither accounting nor the queue answers: to a study that asks the one, to one that asks the other because to it
    the cluster has no accounting, to one that is just being started. All runs are in the midst as it begins."""
    studies = {run: untrained(undisturbed, tmp_path / run) for run in list(FAULTS)[:3]}
    asks_accounting, asks_queue, late = studies
    before = set(cluster.jobs())
    watched = {
        asks_accounting: studies[asks_accounting].started("--verbose", target(asks_accounting)),
        asks_queue: studies[asks_queue].started(
            "--verbose", target(asks_queue), SLURM_CONF=str(cluster.without_accounting)
        ),
    }
    for run in watched:
        met(studies[run], run)
    cluster.kill_controller()
    begun = time.monotonic()
    watched[late] = studies[late].started("--verbose", target(late))
    try:
        while time.monotonic() < begun + 60:
            for run, snakemake in watched.items():
                assert snakemake.poll() is None, (studies[run].folder / "snakemake.log").read_text()
            time.sleep(1)
    finally:
        cluster.start_controller()
    for run, snakemake in watched.items():
        said = (studies[run].folder / "snakemake.log").read_text
        assert snakemake.wait(LIMIT) == 0, said()
        assert ("could not check status" in said()) == (run != late)
        assert cluster.ends(numbers_of(cluster, run, before)) == ["COMPLETED"]
        assert same_run(studies[run], undisturbed, run)
    wait_for(lambda: set(cluster.states().values()) == {"idle"}, 60, "idle nodes")


def test_a_full_disk_ends_the_job_and_the_next_goes_on(
    cluster: Cluster, fresh: Submitted, undisturbed: Workflow
) -> None:
    """Only the run's own folder is full: Snakemake needs some bytes of its own to see the failure."""
    before = set(cluster.jobs())
    place = fresh.folder / "checkpoints" / RUN
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(place)], check=True)
    try:
        snakemake = fresh.started(target(RUN))
        met(fresh, RUN)
        fill(place / "filling")
        wait_for(lambda: "disk is full" in fresh.log(RUN) or "No space left" in fresh.log(RUN), LIMIT, "full disk")
        (place / "filling").unlink()
        assert snakemake.wait(LIMIT) == 0, (fresh.folder / "snakemake.log").read_text()
        states = cluster.ends(numbers_of(cluster, RUN, before))
        assert states == ["FAILED", "COMPLETED"]
        assert same_run(fresh, undisturbed, RUN)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as handle, suppress(OSError):
        while True:
            handle.write(bytes(1 << 16))


@pytest.mark.parametrize("end", [False, True], ids=["keeping the job", "ending the job"])
def test_after_snakemake_was_killed_the_study_goes_on(
    cluster: Cluster, fresh: Submitted, undisturbed: Workflow, end: bool
) -> None:
    """The job it left goes on, and a second one is submitted beside it: that waits, or the first was ended before."""
    before = set(cluster.jobs())
    snakemake = fresh.started(target(RUN))
    met(fresh, RUN)
    (first,) = numbers_of(cluster, RUN, before)
    kill(snakemake.pid)
    snakemake.wait()
    assert cluster.jobs()[first][0] == "RUNNING"
    resumed = fresh.resumed(*(["--end-jobs"] if end else []), wanted=target(RUN))
    said = resumed.stdout + resumed.stderr
    assert resumed.returncode == 0, said
    assert "unlocked; the Snakemake that locked it is gone" in said
    assert "Slurm jobs of the Snakemake that is gone" in said and f"{first}  RUNNING" in said
    states = cluster.ends(numbers_of(cluster, RUN, before))
    assert states[0] == ("CANCELLED" if end else "COMPLETED") and states[1:] in (["COMPLETED"], [])
    assert same_run(fresh, undisturbed, RUN)
    assert fresh.planned(target(RUN)) == {}
