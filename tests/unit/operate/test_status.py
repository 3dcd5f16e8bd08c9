"""What `make status` tells of folders that are whole, half made, at work, failed or of another study."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from scripts.common import lock
from scripts.common.environment import ROOT
from scripts.common.files import read_yaml
from scripts.common.progress import Standing
from scripts.operate.status.found import error_line, failed_jobs
from scripts.operate.status.page import status_page
from scripts.operate.status.states import StageStatus, State, Status, grids, totals
from scripts.operate.status.status import gather, place
from scripts.study import targets
from scripts.study.stages import OF_EVERY_RUN
from scripts.study.study import Study, load, parse
from tests import forks
from tests.fakes import Fakes

SMOKE = ROOT / "studies/smoke.yaml"
TINY = "pythia-tiny"
ALL = [0, 1, 2, 4, 8]


@pytest.fixture
def study() -> Study:
    return load(SMOKE)


@pytest.fixture
def fakes(study: Study, tmp_path: Path) -> Fakes:
    made = Fakes(study, tmp_path)
    made.everything()
    return made


def look(fakes: Fakes, study: Study | None = None) -> Status:
    return gather(study or fakes.study, fakes.root, time.time())


def stage(status: Status, name: str, run: str = TINY) -> StageStatus:
    (found,) = [stage for one in status.runs if one.run == run for stage in one.stages if stage.name == name]
    return found


def log(fakes: Fakes, path: str, text: str, age: float = 0.0) -> Path:
    file = fakes.root / "logs" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    os.utime(file, (time.time() - age,) * 2)
    return file


def changed(*path: str, value: object) -> Study:
    content = read_yaml(SMOKE)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return parse(content)


def test_a_finished_study_is_complete(fakes: Fakes) -> None:
    status = look(fakes)
    assert status.complete
    assert {(one.name, one.state, one.found) for one in totals(status)} == {
        ("data", State.COMPLETE, 8),
        *((name, State.COMPLETE, 15) for name in (stage.name for stage in OF_EVERY_RUN)),
        ("export", State.COMPLETE, 4),  # GGUF files and numbers of one step, two tables
        ("replay", State.COMPLETE, 3),  # a span of training, the rows, both together
        ("recency", State.COMPLETE, 2),
        ("results", State.COMPLETE, 36 + 2 * len(targets.OF_STAGES)),  # of them two forms of a table a stage
    }
    assert all(not stage.notes for run in status.runs for stage in run.stages)


def around(fakes: Fakes, name: str, study: Study | None = None) -> StageStatus:
    """A stage that is no run's."""
    return next(stage for stage in look(fakes, study).around if stage.name == name)


def test_what_is_asked_of_some_runs_is_told_with_its_failures(fakes: Fakes) -> None:
    (fakes.root / "results/export/pythia-small/step8.json").unlink()
    (batch,) = fakes.study.batches(fakes.study.export_steps)
    log(fakes, f"measure/pythia-small_{batch.label}.log", "error: the file is damaged\n")
    found = around(fakes, "export")
    assert (found.state, found.found, found.expected) == (State.FAILED, 3, 4)
    assert found.notes == [f"the file is damaged (logs/measure/pythia-small_{batch.label}.log)"]
    (piece,) = (fakes.root / "results/audit/replay").glob("pythia-*.json")
    piece.unlink()
    assert (around(fakes, "replay").state, around(fakes, "replay").found) == (State.PARTIAL, 2)
    assert not look(fakes).complete


def test_exports_and_verdicts_of_other_inputs_are_stale(fakes: Fakes) -> None:
    other = changed("export", "held_out_sequences", value=6)
    assert around(fakes, "export", other).notes == ["pythia-small step 8: held_out_sequences: 4 there, 6 asked"]
    (drawn,) = (path.stem for path in (fakes.root / "results/audit/recency").glob("*.json"))
    path = fakes.root / f"checkpoints/{drawn}/manifest.json"
    path.write_text(path.read_text() + "\n")
    found = around(fakes, "recency")
    assert found.state is State.STALE
    assert found.notes == [f"results/audit/recency/{drawn}.json: of another checkpoints/{drawn}/manifest.json"]
    path = fakes.root / "models/pythia-small/step8/manifest.json"
    path.write_text(path.read_text() + "\n")
    found = around(fakes, "export")
    assert found.state is State.STALE
    assert found.notes == [f"pythia-small step 8: made from another {path.relative_to(fakes.root)} than there is now"]


def test_stages_that_a_study_does_not_ask_for_are_not_told(study: Study, tmp_path: Path) -> None:
    content = read_yaml(SMOKE)
    content["export"], content["audit"] = None, {"recency": {"runs": 0}}
    status = gather(parse(content), tmp_path, time.time())
    assert [stage.name for stage in status.around] == ["data", "replay", "results"]


def test_an_empty_folder_misses_everything(study: Study, tmp_path: Path) -> None:
    status = gather(study, tmp_path, time.time())
    assert not status.complete and not any(run.begun for run in status.runs)
    assert {(one.state, one.found) for one in totals(status)} == {(State.MISSING, 0)}


def test_one_lost_model_is_partial_and_everything_else_complete(fakes: Fakes) -> None:
    (fakes.root / f"models/{TINY}/step4/manifest.json").unlink()  # its folder stays, as after a failed job
    status = look(fakes)
    assert (stage(status, "convert").state, stage(status, "convert").found) == (State.PARTIAL, 4)
    others = [one.state for run in status.runs for one in run.stages if (run.run, one.name) != (TINY, "convert")]
    assert set(others) == {State.COMPLETE} and not status.complete


def test_a_killed_training_is_partial_at_its_newest_state(study: Study, tmp_path: Path) -> None:
    fakes = Fakes(study, tmp_path)
    fakes.data()
    fakes.checkpoints(TINY, [0, 1, 2])
    fakes.write(f"checkpoints/{TINY}/resume/global_step3/manifest.json", {})
    (tmp_path / f"checkpoints/{TINY}/global_step4").mkdir()  # killed while it was published
    found = stage(look(fakes), "train")
    assert (found.state, found.found, found.expected, found.notes) == (State.PARTIAL, 3, 5, ["step 3 of 8"])


def test_a_locked_run_is_running_with_step_and_time_left(study: Study, tmp_path: Path) -> None:
    fakes = Fakes(study, tmp_path)
    fakes.data()
    fakes.checkpoints(TINY, [0, 1])
    log(fakes, f"train/{TINY}.log", f"{Standing(f'train {TINY}', 3, 8, 'steps', 30, 50, 'loss 2.1')}\n")
    with lock.hold(tmp_path / "checkpoints" / TINY):
        found = stage(look(fakes), "train")
    assert found.state is State.RUNNING and found.notes == ["3 of 8 steps, about 50 s left"]
    assert stage(look(fakes), "train").state is State.PARTIAL  # the lock is gone


def test_a_fresh_lock_of_another_host_is_believed_without_asking_slurm(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(lock, "alive", lambda owner: asked.append(owner))  # None: it lives no more
    fakes = Fakes(study, tmp_path)
    fakes.write(f"checkpoints/{TINY}/.lock", {**lock.owner_now(), "host": "elsewhere", "job": "7"})
    assert stage(look(fakes), "train").state is State.RUNNING and not asked
    os.utime(tmp_path / f"checkpoints/{TINY}/.lock", (time.time() - 2 * lock.SILENCE,) * 2)
    assert stage(look(fakes), "train").state is State.MISSING and asked


def test_a_job_that_tells_progress_is_running_until_it_is_silent(fakes: Fakes) -> None:
    shutil.rmtree(fakes.root / "models" / TINY)
    fakes.models(TINY, [0, 1])
    text = f"{Standing(f'convert {TINY}', 2, 5, 'checkpoints', 4, 6)}\n"
    log(fakes, f"convert/{TINY}_0_8.log", text)
    found = stage(look(fakes), "convert")
    assert (found.state, found.found, found.notes) == (State.RUNNING, 2, ["2 of 5 checkpoints, about 6 s left"])
    log(fakes, f"convert/{TINY}_0_8.log", text, age=3600)
    assert stage(look(fakes), "convert").state is State.PARTIAL


def test_a_failed_job_says_why(fakes: Fakes) -> None:
    (fakes.root / f"results/evals/{TINY}/zero-shot/step8.json").unlink()
    log(
        fakes,
        f"evaluate/{TINY}_zero-shot_0_8.log",
        "a warning\nerror: model: 1 bytes, its manifest says 2\n  write: x\n",
    )
    found = stage(look(fakes), "evaluate")
    assert found.state is State.FAILED
    assert found.notes == [f"model: 1 bytes, its manifest says 2 (logs/evaluate/{TINY}_zero-shot_0_8.log)"]


def test_an_old_failure_of_what_is_there_now_is_not_told(fakes: Fakes) -> None:
    log(fakes, f"train/{TINY}.log", "error: the disk is full\n")
    assert look(fakes).complete


SNAKEMAKE_LOG = """Error in rule train_run:
    message: None
    jobid: 17
    output: checkpoints/pythia-tiny/manifest.json
    log: logs/train/pythia-tiny.log (check log file(s) for error details)
    shell:
        python -m scripts.train train > logs/train/pythia-tiny.log 2>&1
"""


def test_a_job_killed_without_a_word_is_told_by_snakemakes_log(fakes: Fakes) -> None:
    assert failed_jobs(SNAKEMAKE_LOG) == {"logs/train/pythia-tiny.log"}
    (fakes.root / f"checkpoints/{TINY}/manifest.json").unlink()
    own = fakes.root / ".snakemake/log/2026-11-21T180000.000000.snakemake.log"
    own.parent.mkdir(parents=True)
    own.write_text(SNAKEMAKE_LOG)
    log(fakes, f"train/{TINY}.log", "some output\n")
    found = stage(look(fakes), "train")
    assert found.state is State.FAILED and "without a word" in found.notes[0]
    log(fakes, f"train/{TINY}.log", f"{TINY}: asked to end; saved at step 4 of 8, run it again\n")
    assert stage(look(fakes), "train").state is State.PARTIAL


def test_checkpoints_of_other_settings_are_stale_and_so_is_what_was_made_of_them(fakes: Fakes) -> None:
    other = changed("training", "optimizer", "weight_decay", value=0.2)
    found = look(fakes, other)
    assert {stage(found, name).state for name in (stage.name for stage in OF_EVERY_RUN)} == {State.STALE}
    assert stage(found, "train").notes == ["training.optimizer.weight_decay: 0.1 there, 0.2 asked"]


@pytest.mark.parametrize(
    ("path", "value", "name", "note"),
    [
        (("memorization", "sample_sequences"), 24, "memorize", "sample_sequences: 16 there, 24 asked"),
        (("evaluation", "batch_size"), 8, "evaluate", "batch_size: 32 there, 8 asked"),
    ],
)
def test_one_changed_key_makes_one_stage_stale(
    fakes: Fakes, path: tuple[str, ...], value: int, name: str, note: str
) -> None:
    status = look(fakes, changed(*path, value=value))
    assert stage(status, name).state is State.STALE and note in stage(status, name).notes[0]
    states = {one.state for run in status.runs for one in run.stages if one.name != name}
    assert states == {State.COMPLETE}


def test_other_inputs_make_stale(fakes: Fakes) -> None:
    path = fakes.root / "data/deduped/manifest.json"
    path.write_text(path.read_text() + "\n")
    found = stage(look(fakes), "train", "pythia-tiny-deduped")
    assert found.state is State.STALE and found.notes == [
        "made from another data/deduped/manifest.json than there is now"
    ]
    path = fakes.root / f"models/{TINY}/step8/manifest.json"
    path.write_text(path.read_text() + "\n")
    status = look(fakes)
    assert {stage(status, name).state for name in ("evaluate", "memorize")} == {State.STALE}
    assert stage(status, "convert").state is State.COMPLETE


def test_changed_data_settings_are_told_beside_the_runs(fakes: Fakes) -> None:
    status = look(fakes, changed("data", "held_out_fraction", value=0.2))
    assert status.data.state is State.STALE and "held_out_fraction: 0.1 there, 0.2 asked" in status.data.notes[0]


def test_the_reason_is_the_last_error_of_a_log() -> None:
    assert error_line("error: first\nmore\n") == "first"
    trace = (
        'Traceback (most recent call last):\n  File "x.py", line 1, in f\ntorch.OutOfMemoryError: CUDA out of memory\n'
    )
    assert error_line("ValueError: only printed\n") is None
    assert error_line(trace + "a last word\n") == "torch.OutOfMemoryError: CUDA out of memory"


def test_every_run_of_the_seeds_study_has_a_cell_of_its_own() -> None:
    study = load(ROOT / "studies/polypythias.yaml")
    places = {name: place(study, run) for name, run in study.runs.items()}
    assert len(set(places.values())) == len(study.runs) == 56
    assert places["pythia-160m-data-seed2"] == ("160m", "data 2")
    assert places["pythia-160m-weight-seed3"] == ("160m", "weight 3")
    assert places["pythia-14m"] == ("14m", "1234") and places["pythia-410m-seed9"] == ("410m", "9")


def test_runs_of_interventions_get_rows_of_their_own() -> None:
    study = load(ROOT / "studies/pythia-interventions.yaml")
    places = {name: place(study, run) for name, run in study.runs.items()}
    assert len(set(places.values())) == len(study.runs)
    assert places["pythia-70m-deduped-intervention-pronouns"] == ("70m intervention-pronouns", "1234")


def test_the_page_holds_every_run_and_note(fakes: Fakes) -> None:
    log(fakes, f"convert/{TINY}_0_8.log", "error: <b>bad</b>\n")
    (fakes.root / f"models/{TINY}/step4/manifest.json").unlink()
    status = look(fakes)
    page = status_page(status, "2026-11-21 18:00")
    assert all(run.run in page for run in status.runs)
    assert "&lt;b&gt;bad&lt;/b&gt;" in page and "<b>bad</b>" not in page
    assert 'class="failed"' in page and "4 of 5" in page


def test_grids_are_by_corpus(fakes: Fakes) -> None:
    shape = [(corpus, rows, columns) for corpus, rows, columns, _ in grids(look(fakes))]
    assert shape == [("standard", ["tiny", "small"], ["1234"]), ("deduped", ["tiny"], ["1234"])]


def test_the_command_tells_by_its_exit_code(fakes: Fakes) -> None:
    def call(*more: str) -> subprocess.CompletedProcess[str]:
        command = [
            forks.python(),
            "-m",
            "scripts.operate",
            "status",
            "--study",
            str(SMOKE),
            "--directory",
            str(fakes.root),
        ]
        return subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, check=False)

    done = call()
    assert done.returncode == 0 and "3 of 3 runs complete" in done.stdout, done.stderr
    assert (fakes.root / "results/status.html").exists()
    page = fakes.root / "results/status.html"
    page.unlink()
    page.mkdir()  # as good as a folder of somebody else's: the page can't be written
    done = call()
    assert done.returncode == 0 and "3 of 3 runs complete" in done.stdout and "Traceback" not in done.stderr
    assert "Is a directory; what came out stands above" in done.stderr and "--out" in done.stderr
    assert call("--out", str(fakes.root / "mine.html")).returncode == 0 and (fakes.root / "mine.html").is_file()
    (fakes.root / f"checkpoints/{TINY}/manifest.json").unlink()
    done = call("--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["complete"] is False and told["runs"][0]["stages"][0]["state"] == "partial"
