"""Kills, damage and mistakes."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from scripts.common.files import read_yaml
from tests.workflow.conftest import ROOT, SMOKE, Workflow
from tests.workflow.hashes import hashes


def kill_after(command: list[str], seconds: float, ready: Callable[[], bool]) -> bool:
    """Start a command in its own process group, SIGKILL the group `seconds` after it is `ready`.

    Returns whether the kill came before the end.
    """
    process = subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not ready():
        time.sleep(0.005)
    try:
        process.wait(timeout=seconds)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True


def test_killed_training_ends_in_the_same_bytes(copied: Callable[..., Workflow]) -> None:
    """At three moments; then all that follows from the run is made again too."""
    workflow = copied()
    expected = hashes(workflow.folder)
    run = workflow.folder / "checkpoints/pythia-small"
    ready = (run / "metrics.jsonl").exists  # training has begun
    real = Workflow(workflow.folder, workflow.study_file, sys.executable)
    for seed in range(3):
        shutil.rmtree(run)
        assert kill_after(real.study(), random.Random(seed).uniform(0.0, 0.6), ready)
        subprocess.run(workflow.study("train"), cwd=ROOT, check=True, capture_output=True)
        assert hashes(workflow.folder) == expected
    subprocess.run(workflow.study(), cwd=ROOT, check=True, capture_output=True)
    assert hashes(workflow.folder) == expected
    assert workflow.planned() == {}


@pytest.mark.slow
@pytest.mark.parametrize(("study", "longest"), [(SMOKE, 12.0), (ROOT / "config.yaml", 100.0)], ids=["smoke", "default"])
def test_ten_kills_of_the_whole_study_change_nothing(tmp_path: Path, study: Path, longest: float) -> None:
    """The default study's case takes half an hour."""
    undisturbed, killed = (Workflow(tmp_path / name, study, sys.executable) for name in ("undisturbed", "killed"))
    for workflow in (undisturbed, killed):
        workflow.folder.mkdir()
    undisturbed.succeed()
    chance, kills = random.Random(7), 0
    for _ in range(10):
        kills += kill_after(killed.study(), chance.uniform(3, longest), lambda: True)
    subprocess.run(killed.study(), cwd=ROOT, check=True, capture_output=True)
    assert kills >= 8  # the last ones may come after the end
    assert hashes(killed.folder) == hashes(undisturbed.folder)


def damage(path: Path) -> None:
    """Flip one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # break hard links first: another name of this file must stay whole
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "package", "command", "arguments"),
    [
        (
            "checkpoints/pythia-tiny/global_step4/layer_02-model_00-model_states.pt",
            "scripts.convert",
            "convert",
            ["--run", "pythia-tiny", "--steps", "4"],
        ),
        (
            "checkpoints/pythia-tiny/resume/global_step8/zero_pp_rank_0_mp_rank_00_optim_states.pt",
            "scripts.train",
            "train",
            ["--run", "pythia-tiny"],
        ),
        ("data/standard/tokens.bin", "scripts.train", "train", ["--run", "pythia-small"]),
    ],
)
def test_a_flipped_bit_is_refused_and_named(
    copied: Callable[..., Workflow], file: str, package: str, command: str, arguments: list[str]
) -> None:
    workflow = copied()
    damage(workflow.folder / file)
    before = hashes(workflow.folder)
    done = workflow.command_line(package, command, *arguments)
    assert done.returncode == 2 and Path(file).name in done.stderr and "Traceback" not in done.stderr
    assert hashes(workflow.folder) == before


def test_a_swapped_checkpoint_is_refused(copied: Callable[..., Workflow]) -> None:
    workflow = copied()
    root = workflow.folder / "checkpoints/pythia-tiny"
    shutil.rmtree(root / "global_step4")
    shutil.copytree(root / "global_step2", root / "global_step4")
    done = workflow.command_line("scripts.convert", "convert", "--run", "pythia-tiny", "--steps", "4")
    assert done.returncode == 2 and "'step': 2" in done.stderr


def test_a_foreign_work_folder_is_refused_before_the_first_job(copied: Callable[..., Workflow]) -> None:
    changed = copied(("  steps: 8", "  steps: 16"))
    before = hashes(changed.folder)
    done = changed.run()
    assert done.returncode != 0
    assert "refused before the first job" in done.stderr and "training.steps: 8 there, 16 asked" in done.stderr
    assert "Traceback" not in done.stderr and hashes(changed.folder) == before


MISTAKES = [
    ("sizes: [tiny, small]", "sizes: [tinny, small]", "sizes: [tiny]"),
    ("[castalia_last_word,", "[castalia_last_wrod,", "castalia_last_word"),
    ("seeds: [1234]", "seeds: [-1]", "at least 0"),
    ("  batch_size: 4", "  batchsize: 4", "batch_size: 4"),
    ("threshold: 0.87", "threshold: 1.87", "at most 1"),
    ("heads: 2,", "heads: 3,", "heads: 2"),
    ("micro_batch: null", "micro_batch: 3", "micro_batch: 2"),
    ("    file: null", "    file: nowhere.json", "nowhere.json does not exist"),
]


@pytest.mark.parametrize(("old", "new", "fix"), MISTAKES, ids=[new for _, new, _ in MISTAKES])
def test_a_mistake_ends_before_the_first_job(tmp_path: Path, old: str, new: str, fix: str) -> None:
    text = SMOKE.read_text()
    assert old in text
    study = tmp_path / "study.yaml"
    study.write_text(text.replace(old, new, 1))
    workflow = Workflow(tmp_path / "out", study)
    workflow.folder.mkdir()
    done = workflow.run()
    assert done.returncode != 0 and fix in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not (workflow.folder / "data").exists()


def test_a_dry_run_refuses_names_and_tells_what_a_start_would_refuse(tmp_path: Path) -> None:
    text = SMOKE.read_text().replace("    file: null", "    file: nowhere.json")
    text = text.replace("epsilon: 1.0e-8", "epsilon: 1e-8")  # which YAML 1.1, and so Snakemake, takes for text
    study = tmp_path / "study.yaml"
    study.write_text(text)
    done = Workflow(tmp_path, study).run("--dry-run", "--quiet")
    assert done.returncode == 0 and done.stderr.strip().endswith(f"nowhere.json does not exist (seen from {tmp_path})")
    study.write_text(text.replace("[castalia_last_word,", "[castalia_last_wrod,", 1))
    done = Workflow(tmp_path, study).run("--dry-run", "--quiet")
    assert done.returncode != 0 and "write:   castalia_last_word" in done.stderr and "Traceback" not in done.stderr


def test_missing_and_altered_corpus_files_are_refused(tmp_path: Path) -> None:
    corpus = tmp_path / "own.txt"
    corpus.write_text("some text\n" * 100)
    for changed, expected in (
        ({"files": [f"{tmp_path}/absent.txt"]}, "no file matches"),
        ({"files": [str(corpus)], "sha256": "ab" * 32}, "has sha256"),
    ):
        content = read_yaml(SMOKE)
        content["data"]["components"]["novels"] = changed
        study = tmp_path / "study.yaml"
        study.write_text(yaml.safe_dump(content))
        done = Workflow(tmp_path, study).run()
        assert done.returncode != 0 and expected in done.stderr, done.stderr


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Two components with one name: YAML's users, Snakemake among them, silently take the last."""
    study = tmp_path / "study.yaml"
    study.write_text(SMOKE.read_text().replace("    verse:", "    novels:", 1))
    done = Workflow(tmp_path, study).run()
    assert done.returncode != 0
    assert "the key 'novels' stands there twice" in done.stderr


def test_an_unwritable_output_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scripts.common.errors import UserError
    from scripts.operate.preflight import check_writable

    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere, so ask in the user's place
    with pytest.raises(UserError, match="not writable"):
        check_writable(tmp_path)


def test_a_disk_too_small_for_the_plan_is_refused(tmp_path: Path) -> None:
    from scripts.common.errors import UserError
    from scripts.operate.preflight import bytes_needed, check_room
    from scripts.study.study import load

    study = load(ROOT / "config.yaml")
    check_room(study, tmp_path, lambda _: 2 * bytes_needed(study))
    with pytest.raises(UserError, match="are free"):
        check_room(study, tmp_path, lambda _: bytes_needed(study) // 2)


def test_room_is_asked_of_the_disk_a_folder_is_linked_to(tmp_path: Path) -> None:
    """`checkpoints` on a large disk, the rest on a small one; then `models` beside it."""
    from scripts.common.errors import UserError
    from scripts.operate.preflight import bytes_needed, bytes_there, check_room, check_writable
    from scripts.study.storage import all_kept
    from scripts.study.study import load

    study, large = load(ROOT / "config.yaml"), Path("/dev/shm")
    if not large.is_dir() or large.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    kept, asked = all_kept(study), []

    def free(place: Path) -> int:
        asked.append(place.resolve())
        return 2 * bytes_needed(study) if place.resolve() == large else int(1.3 * (kept.models + kept.exports))

    with pytest.raises(UserError, match="written to checkpoints, exports, models"):
        check_room(study, tmp_path, free)
    (tmp_path / "checkpoints").symlink_to(large)
    check_room(study, tmp_path, free)
    assert set(asked) == {tmp_path, large}
    with pytest.raises(UserError, match=r"written to exports, models, 0\.0 GB are free"):
        check_room(study, tmp_path, lambda place: free(place) * (place.resolve() == large))
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/file").write_bytes(b"x" * 9)
    (tmp_path / "models").symlink_to(tmp_path / "inside")
    assert bytes_there(tmp_path / "models") == 9
    (tmp_path / "exports").symlink_to(tmp_path / "not-mounted")
    with pytest.raises(UserError, match=r"exports: a link to .*not-mounted, which is not there"):
        check_writable(tmp_path)


def test_a_package_of_the_same_name_in_the_studys_folder_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scripts.common.environment import prepare

    for key, value in os.environ.items():
        monkeypatch.setenv(key, value)  # all as before in the end
    prepare(str(ROOT), 1)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/__init__.py").write_text("raise RuntimeError('of another project')\n")
    command = [sys.executable, "-m", "scripts.data", "fetch", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    monkeypatch.delenv("PYTHONSAFEPATH")
    assert done.returncode == 0, done.stderr


TARGETS = ["study", "export", "fetch", "plan", "resume", "watch", "status", "why", "audit", "dry-run"]


@pytest.mark.parametrize("target", TARGETS)
def test_paths_with_blanks_stay_one_word(target: str, tmp_path: Path) -> None:
    paths = {"DIRECTORY": "~/out/my  study", "STUDY": "my  studies/a b.yaml", "AGAINST": "", "OUT": "my  out"}
    given = [f"{key}={value}" for key, value in paths.items()]
    said = subprocess.run(
        ["make", "--dry-run", target, *given, f"READY={tmp_path}", "HOME=/home/me"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.replace("\\\n", "")  # fmt: skip
    words = [word for line in said.splitlines() for word in shlex.split(line, comments=True)]
    assert "/home/me/out/my  study" in words
    study = {"my  studies/a b.yaml", str(ROOT / "my  studies/a b.yaml")}
    assert target == "watch" or study & set(words)
    assert not any(word in ("my", "study", "studies/a", "b.yaml") for word in words)


def test_the_same_run_twice_at_once_is_refused(copied: Callable[..., Workflow]) -> None:
    from scripts.common import lock

    workflow = copied()
    with lock.hold(workflow.folder / "checkpoints/pythia-tiny"):
        done = workflow.command_line("scripts.train", "train", "--run", "pythia-tiny")
    assert done.returncode == 2 and f"process {os.getpid()}" in done.stderr
