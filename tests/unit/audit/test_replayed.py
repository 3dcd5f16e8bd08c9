"""What a replay and the evidence read of a suite that others made: whatever it holds, it is told by name."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from scripts.audit.provenance import checklist
from scripts.audit.provenance.artefacts import record
from scripts.audit.recency import measure
from scripts.audit.replay import segment as replay_segment
from scripts.audit.replay.pieces import read_pieces
from scripts.audit.verdict import judged, plain
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_json, write_json
from scripts.replay import cost, scratch
from scripts.replay.compare import other_kind
from scripts.study import paths
from scripts.study.sampling import Interval, recency_runs
from scripts.study.study import Study, load

SOUND = plain([judged("a", "all is well", [], "looked at")])
RECORD = {"finished": "2026", "platform": "x", "python": "3", "processor": "p", "packages": {"torch": "1"}}
ODD = [
    b"",
    b"[]",
    b"7",
    b"null",
    b"{",
    b'{"a": NaN}',
    b"\xff",
    b"[" * 500,
    b'{"a": 1, "a": 2}',
    b'{"a": ' + b"9" * 5000 + b"}",
]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    return load(ROOT / "studies/smoke.yaml")


@pytest.mark.parametrize(
    "content",
    [
        *ODD,
        *(
            json.dumps({**SOUND, **change}).encode()
            for change in (
                {"checks": []},
                {"checks": "a"},
                {"checks": [7]},
                {"checks": [{**SOUND["checks"][0], "status": "fine"}]},
                {"checks": SOUND["checks"] * 2},
                {"of": ["checkpoints"]},
                {"of": {"checkpoints": 7}},
            )
        ),
    ],
)
def test_a_damaged_verdict_of_a_job_fails_by_name(tmp_path: Path, content: bytes) -> None:
    sound, odd = tmp_path / "sound.json", tmp_path / "odd.json"
    write_json(sound, SOUND)
    odd.write_bytes(content)
    contents, checks = read_pieces([sound, odd])
    assert contents == [SOUND]
    assert [(check.id, check.status) for check in checks] == [("a", "pass"), ("file-odd", "fail")]
    assert str(odd) in checks[1].evidence[0]


def test_a_job_that_repeats_anothers_checks_fails(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_json(tmp_path / f"{name}.json", SOUND)
    _, checks = read_pieces([tmp_path / "one.json", tmp_path / "two.json"])
    assert [check.id for check in checks] == ["a", "file-two"] and plain(checks)["verdict"] == "fail"


@pytest.mark.parametrize("table", [None, 7, [7], [{}], [{**dict.fromkeys(measure.COLUMNS, 1)}]])
def test_a_damaged_table_of_a_run_fails_the_verdict(study: Study, table: Any) -> None:
    (name,) = recency_runs(study)
    write_json(paths.recency(name), {**SOUND, "table": table})
    verdict = measure.gather(study)
    assert verdict["verdict"] == "fail" and f"{name}.json" in verdict["checks"][0]["evidence"][0]


@pytest.mark.parametrize("content", [*ODD, b'{"packages": 7}', b'{"packages": {}, "processor": ["p"]}'])
def test_nobody_is_excused_by_a_damaged_record(tmp_path: Path, content: bytes) -> None:
    for name, processor in (("stored", "p"), ("replayed", "q")):
        write_json(tmp_path / name / "record.json", {**RECORD, "processor": processor})
    folders = tmp_path / "stored", tmp_path / "replayed"
    assert other_kind(*folders) == ["processor p, now q"]
    (folders[0] / "record.json").write_bytes(content)
    assert other_kind(*folders) == []
    with pytest.raises(UserError, match=r"record\.json"):
        record(folders[0] / "manifest.json")


@pytest.mark.parametrize("content", [*ODD[1:], b'{"step": "1"}\n', b'{"step": 1}\n[]\n'])
def test_a_damaged_log_is_told_by_name(study: Study, content: bytes) -> None:
    interval, name = Interval("pythia-tiny", 0, 4), "metrics.jsonl"
    stored, replayed = Path("stored") / name, Path("replayed") / name
    for path in (stored, replayed, Path("checkpoints/pythia-tiny") / paths.TIMING):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    with pytest.raises(UserError, match=str(stored)):
        scratch.upto(stored, 4)
    assert all(str(stored) in fault for fault in replay_segment.step_faults(stored, replayed, interval))
    assert "no speed recorded" in cost.said(study, [interval])


def test_a_scratch_folder_that_came_with_a_suite_is_not_taken_for_work_done(study: Study) -> None:
    interval = Interval("pythia-tiny", 0, 4)
    for folder in ("data", *(f"checkpoints/{run}" for run in study.runs)):
        Path(folder).mkdir(parents=True, exist_ok=True)
    work = scratch.for_interval(study, interval)
    made = work / "checkpoints/pythia-tiny/global_step4"
    made.mkdir(parents=True)
    assert scratch.for_interval(study, interval) == work and made.exists()  # a killed try goes on
    shutil.copytree(work, "unpacked", symlinks=True)
    shutil.rmtree(work)
    Path("unpacked").rename(work)
    assert scratch.for_interval(study, interval) == work and not made.exists()
    assert read_json(work / scratch.STAMP)["inode"] == work.stat().st_ino
    shutil.rmtree(work)
    Path("elsewhere").mkdir()
    work.symlink_to(Path("elsewhere").resolve())
    with pytest.raises(UserError, match="a link"):
        scratch.for_interval(study, interval)
    assert not os.listdir("elsewhere")  # noqa: PTH208


@pytest.mark.parametrize("path", [paths.table("runs"), paths.TIMINGS], ids=str)
@pytest.mark.parametrize("text", ["size,corpus,held_out_loss,seconds,cpu_seconds\na,b,x,x,x\n", None])
def test_the_checklist_names_a_table_that_is_none(study: Study, path: Path, text: str | None) -> None:
    path.parent.mkdir(parents=True)
    if text is None:
        os.mkfifo(path)  # which would never end
    else:
        path.write_text(text)
    with pytest.raises(UserError, match=str(path)):
        checklist._variation() if path == paths.table("runs") else checklist._time()
