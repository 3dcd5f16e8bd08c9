"""Steps that a run did not save, made again: the bytes of a run that saved them, and nothing where one bit is wrong."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from scripts.common.files import read_json, read_yaml, sha256_file, write_json
from tests import forks
from tests.workflow.conftest import ROOT, SMOKE, Workflow
from tests.workflow.test_training import train, wait_for

RUN, STEPS, BETWEEN = "pythia-tiny", 24, (3, 13)  # saved are 0, 1, 2, 4 and 24, with optimizer state 0, 2 and 24
KINDS: dict[str, dict[str, Any]] = {
    "one process": {},
    "two processes": {"processes": 2},
    "bf16": {"precision": "bf16"},
    "no ZeRO": {"zero_stage": 0},
    "segments that end on the step": {"segments": 24},
}


def study_file(folder: Path, name: str, extra: tuple[int, ...] = (), precision: str = "fp32", **runtime: Any) -> Path:
    """The smoke study's smallest run, longer, which saves `extra` steps too."""
    content = read_yaml(SMOKE)
    content["training"] |= {"steps": STEPS, "precision": precision}
    content["checkpoints"]["schedule"]["extra"] = list(extra)
    content["runs"] = [{"sizes": ["tiny"], "corpora": ["standard"], "seeds": [1234], "vary": "both"}]
    content["runtime"] |= runtime
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def home(finished: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data of a longer smoke study."""
    folder = tmp_path_factory.mktemp("steps")
    shutil.copytree(finished.folder / "data", folder / "data")
    shutil.rmtree(folder / "data/standard/order-1234")
    order = ["--study", str(study_file(folder, "plain")), "--corpus", "standard", "--seed", "1234"]
    command = [forks.python(), "-m", "scripts.data", "order", *order]
    subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    return folder


def folder_of(home: Path, folder: Path) -> Path:
    folder.mkdir()
    (folder / "data").symlink_to(home / "data")
    return folder


@pytest.fixture(scope="module")
def trained(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A run without the steps between, not to be changed."""
    folder = folder_of(home, tmp_path_factory.mktemp("trained") / "run")
    workflow = Workflow(folder, study_file(folder, "study"))
    train(folder, workflow.study_file)
    return workflow


@pytest.fixture
def copy(trained: Workflow, tmp_path: Path) -> Workflow:
    shutil.copytree(trained.folder, tmp_path / "copy", symlinks=True)
    return Workflow(tmp_path / "copy", tmp_path / "copy/study.yaml")


def replay(workflow: Workflow, *steps: int, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    asked = ["--run", RUN, "--steps", *map(str, steps), *options]
    return workflow.command_line("scripts.replay", "steps", *asked, study_file=workflow.study_file)


def sums(folder: Path) -> dict[str, str]:
    """sha256 of a checkpoint's files, but of what tells of the schedule."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("manifest.json", "record.json"))
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def checkpoint(workflow: Workflow, step: int) -> Path:
    return workflow.folder / f"checkpoints/{RUN}/global_step{step}"


def again(workflow: Workflow, step: int) -> Path:
    return workflow.folder / f"replayed/checkpoints/{RUN}/global_step{step}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_made_again_is_that_of_a_run_that_saved_it(kind: str, home: Path, tmp_path: Path) -> None:
    setting = KINDS[kind]
    saved = Workflow(folder_of(home, tmp_path / "saved"), study_file(tmp_path, "saved", BETWEEN, **setting))
    lacking = Workflow(folder_of(home, tmp_path / "lacking"), study_file(tmp_path, "lacking", **setting))
    for workflow in (saved, lacking):
        done = workflow.command_line("scripts.train", "launch", "--run", RUN, study_file=workflow.study_file)
        assert done.returncode == 0, done.stderr
    done = replay(lacking, *BETWEEN)
    assert done.returncode == 0, done.stderr
    for step in BETWEEN:
        assert sums(again(lacking, step)) == sums(checkpoint(saved, step))
        facts = read_json(again(lacking, step) / "manifest.json")["facts"]
        assert facts["begin"] == 2 and facts["met"] == (4 if step == 3 else 24) and not facts["optimizer_state"]
        assert facts["held_out"]["step"] == step
    assert not (lacking.folder / "replayed/scratch" / f"{RUN}_2_24").exists()


def test_a_killed_replay_goes_on_and_ends_in_the_same(trained: Workflow, copy: Workflow, tmp_path: Path) -> None:
    assert replay(copy, 13).returncode == 0
    undisturbed = sums(again(copy, 13))
    shutil.rmtree(copy.folder / "replayed")
    command = [forks.python(), "-m", "scripts.replay", "steps", "--study", str(copy.study_file), "--run", RUN]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--steps", "13"], cwd=copy.folder, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    log = copy.folder / f"replayed/scratch/{RUN}_2_24/checkpoints/{RUN}/metrics.jsonl"
    wait_for(process, lambda: log.exists() and log.read_text().count("\n") >= 9)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not again(copy, 13).exists()
    done = replay(copy, 13)
    assert done.returncode == 0, done.stderr
    assert sums(again(copy, 13)) == undisturbed


def changed_bit(path: Path) -> None:
    """Flip a bit in a weight of a torch file, which then still loads."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # a hard link, maybe
    path.write_bytes(content)


@pytest.mark.parametrize("pattern", ["*optim_states.pt", "layer_02-*"])
def test_a_flipped_bit_in_the_stored_state_gives_no_step(pattern: str, copy: Workflow) -> None:
    (path,) = checkpoint(copy, 2).glob(pattern)
    changed_bit(path)
    done = replay(copy, 3)
    assert done.returncode and f"{path.name}: sha256" in done.stderr and "Traceback" not in done.stderr
    assert not again(copy, 3).exists()


def test_moments_changed_with_their_hash_meet_no_stored_step(copy: Workflow) -> None:
    (path,) = checkpoint(copy, 2).glob("*optim_states.pt")
    content = torch.load(path, weights_only=False)  # the test's own study made it
    for held in content["optimizer_state_dict"]["base_optimizer_state"]["state"].values():
        held["exp_avg_sq"] *= 1.01
    path.unlink()
    torch.save(content, path)
    told = read_json(checkpoint(copy, 2) / "manifest.json")
    told["files"][path.name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
    write_json(checkpoint(copy, 2) / "manifest.json", told)
    done = replay(copy, 3)
    assert done.returncode and "Traceback" not in done.stderr
    assert f"checkpoints/{RUN}/global_step4 did not come out again, so no step of {RUN} is published" in done.stderr
    assert re.search(r"layer_02-model_00-model_states.pt: sha256 [0-9a-f]{64}, replayed [0-9a-f]{64}", done.stderr)
    assert "the first line that differs is that of step 3" in done.stderr or "of step 4" in done.stderr
    assert "runtime.threads" in done.stderr
    assert not again(copy, 3).exists()


def test_a_step_that_met_a_changed_checkpoint_is_not_published(copy: Workflow) -> None:
    (path,) = checkpoint(copy, 4).glob("layer_02-*")
    changed_bit(path)
    done = replay(copy, 3)
    assert done.returncode and f"{path.name}: sha256" in done.stderr
    assert not again(copy, 3).exists()
    assert not (copy.folder / "replayed/scratch").exists()  # told before any time was spent


def test_a_checkpoint_that_was_deleted_is_put_back_as_it_was(trained: Workflow, copy: Workflow) -> None:
    for step in (1, 4):
        shutil.rmtree(checkpoint(copy, step))
    assert replay(copy, 1, 4).returncode == 0
    for step in (1, 4):
        assert sums(checkpoint(copy, step)) == sums(checkpoint(trained, step))
        manifests = (checkpoint(workflow, step) / "manifest.json" for workflow in (copy, trained))
        assert len(set(map(sha256_file, manifests))) == 1
    shutil.rmtree(checkpoint(copy, 4))
    assert replay(copy, 3).returncode == 0  # the next stored one is the last
    assert read_json(again(copy, 3) / "manifest.json")["facts"]["met"] == STEPS


@pytest.mark.parametrize(
    ("steps", "said"),
    [((25,), "25 is not allowed\n  allowed: 0 to 24"), ((-1,), "-1 is not allowed")],
)
def test_steps_beyond_the_run_are_refused(steps: tuple[int, ...], said: str, trained: Workflow) -> None:
    done = replay(trained, *steps)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_the_cost_is_told_and_nothing_done(trained: Workflow) -> None:
    done = replay(trained, 13, 14, 3, options=("--cost",))
    assert done.stdout.startswith(f"replay {RUN} from step 2 to 24: 22 ")
    assert not (trained.folder / "replayed").exists()


def test_what_was_replayed_is_listed_and_dropped(copy: Workflow) -> None:
    assert replay(copy, 3, 13, options=("--optimizer-state",)).returncode == 0
    assert list(again(copy, 3).glob("*optim_states.pt"))

    def call(command: str, *arguments: str) -> str:
        done = copy.command_line("scripts.replay", command, *arguments, study_file=copy.study_file)
        return done.stdout + done.stderr

    assert re.match(rf"{RUN}: 2 replayed, [\d.]+ [kM]B: steps 3, 13\n", call("list"))
    assert "--steps: [6] are not among the replayed ones\n  allowed: 3, 13" in call("drop", "--steps", "6")
    assert call("drop", "--steps", "3").startswith("dropped 1 steps")
    assert not again(copy, 3).exists() and again(copy, 13).exists()
    call("drop")
    assert call("list") == "replayed/ holds nothing\n"


@pytest.fixture
def grown(copied: Callable[..., Workflow]) -> Workflow:
    """A finished study whose schedule has grown by step 3, with its optimizer state."""
    return copied(
        ("    extra: []\n  optimizer_states: # 0, 2, 8", "    extra: [3]\n  optimizer_states: # 0, 2, 8"),
        ("    extra: [2]", "    extra: [2, 3]"),
    )


def test_steps_added_to_a_schedule_are_filled_in_without_training_anew(grown: Workflow, finished: Workflow) -> None:
    runs = sorted(path.name for path in (finished.folder / "checkpoints").iterdir())
    planned = grown.planned()
    assert "train_run" not in planned and planned["convert"] == len(runs)
    assert sum(count for rule, count in planned.items() if rule.startswith("replay_steps")) == len(runs)
    grown.succeed()
    for run in runs:
        for step in (0, 1, 2, 3, 4, 8):
            folder = f"checkpoints/{run}/global_step{step}"
            assert (grown.folder / folder / "manifest.json").exists()
            if step != 3:
                assert sums(grown.folder / folder) == sums(finished.folder / folder)
    for part in ("integrity", "replay"):
        assert read_json(grown.folder / f"results/audit/{part}.json")["verdict"] == "pass"
    assert grown.planned() == {}
    done = grown.command_line("scripts.audit", "replay-segment", "--run", RUN, "--begin", "3", "--end", "8")
    assert done.returncode == 0, done.stderr
    assert read_json(grown.folder / f"results/audit/replay/{RUN}_3_8.json")["verdict"] == "pass"


def test_results_of_an_unscheduled_step_are_targets(copied: Callable[..., Workflow]) -> None:
    workflow = copied()
    model, scores = f"models/{RUN}/step3/manifest.json", f"results/evals/{RUN}/zero-shot/step3.json"
    memorized = f"results/memorization/{RUN}/step3.parquet"
    assert workflow.planned(model, scores, memorized) == {
        "replay_steps_0": 1, "convert_3_3_replayed0": 1, "evaluate_3_3_replayed0": 1, "memorize_3_3_replayed0": 1,
    }  # fmt: skip
    text = workflow.succeed(model, scores, memorized)
    assert "train_run" not in text
    assert read_json(workflow.folder / scores)["step"] == 3
    assert workflow.planned() == {}  # no part of completeness
    done = workflow.command_line("scripts.audit", "integrity")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 is not allowed" in workflow.run("--dry-run", f"models/{RUN}/step9/manifest.json").stderr


def test_a_checkpoint_that_only_says_it_was_replayed_is_told(copied: Callable[..., Workflow]) -> None:
    """Whoever forges a saved step can't hide that it hangs on no chain by calling it replayed."""
    workflow = copied()
    path = workflow.folder / f"checkpoints/{RUN}/global_step4/manifest.json"
    told = read_json(path)
    told["kind"], told["facts"] = "replayed", told["facts"] | {"begin": 2, "met": 8, "held_out": {}}
    ends = [f"checkpoints/{RUN}/global_step{step}/manifest.json" for step in (2, 8)]
    told["parents"] = {end: sha256_file(workflow.folder / end) for end in ends}
    write_json(path, told)
    done = workflow.command_line("scripts.audit", "integrity")
    assert done.returncode == 1
    checks = {check["id"]: check for check in read_json(workflow.folder / "results/audit/integrity.json")["checks"]}
    assert any("says that it was replayed from step 2 to meet step 8" in line for line in checks["chain"]["evidence"])


INTERVENTION = {"parent": {"run": RUN, "step": 2}, "transform": "shuffled-tokens", "between": [4, 9]}


def test_a_step_of_an_intervention_made_again_is_that_of_a_run_that_saved_it(home: Path, tmp_path: Path) -> None:
    """From its parent's state, through steps whose sequences are changed, scheduled ones among them."""
    made = {}
    for name, extra in (("saved", BETWEEN), ("lacking", ())):
        workflow = Workflow(folder_of(home, tmp_path / name), study_file(tmp_path, name, extra))
        content = read_yaml(workflow.study_file)
        content["interventions"] = {"noise": INTERVENTION}
        workflow.study_file.write_text(yaml.safe_dump(content))
        for run in (RUN, f"{RUN}-intervention-noise"):
            done = workflow.command_line("scripts.train", "launch", "--run", run, study_file=workflow.study_file)
            assert done.returncode == 0, done.stderr
        made[name] = workflow
    child, asked = f"{RUN}-intervention-noise", ["--steps", *map(str, BETWEEN)]
    lacking = made["lacking"]
    done = lacking.command_line("scripts.replay", "steps", "--run", child, *asked, study_file=lacking.study_file)
    assert done.returncode == 0, done.stderr
    for step in BETWEEN:
        again_there = lacking.folder / f"replayed/checkpoints/{child}/global_step{step}"
        assert sums(again_there) == sums(made["saved"].folder / f"checkpoints/{child}/global_step{step}")
        assert read_json(again_there / "manifest.json")["facts"]["begin"] == 2
