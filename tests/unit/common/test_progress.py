"""What a person sees of long work: lines in a log file by a fake clock, a bar in a terminal."""

from __future__ import annotations

import io
import re
from itertools import pairwise

import pytest

from scripts.common import progress as shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_long_job_writes_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    tell = shown._lines("train a", 36000, "steps", 0, clock=lambda: now)
    moments = []
    for step in range(1, 36001):  # ten hours, a step a second
        now = 100.0 + step
        tell(step)
        if capsys.readouterr().err:
            moments.append(step)
    assert moments[:4] == [5, 15, 35, 75]  # short jobs are seen too
    assert {later - earlier for earlier, later in pairwise(moments[3:-1])} == {60}
    assert moments[-1] == 36000


def test_a_line_says_how_far_how_long_and_how_well(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    tell = shown._lines("train pythia-70m", 143000, "steps", 100000, clock=lambda: now)
    now = 3600.0
    tell(110000, "loss 2.7183, lr 0.0002, 163340 tokens/s")
    log = capsys.readouterr().err
    assert log.splitlines()[0] == (
        "train pythia-70m: 110000/143000 steps, 1 h, about 3 h 18 min left, loss 2.7183, lr 0.0002, 163340 tokens/s"
    )
    assert shown.last_standing("something else\n" + log + "and more\n") == shown.Standing(
        title="train pythia-70m",
        done=110000,
        total=143000,
        unit="steps",
        spent=3600,
        left=11880,
        note="loss 2.7183, lr 0.0002, 163340 tokens/s",
    )


def test_what_a_kill_cut_short_is_not_read() -> None:
    """Neither a line's end that is lost, nor its beginning, where only the end of a log is read."""
    first, second = (f"{shown.Standing('train a: b, about c', step, 10, 'steps', 3, 4)}\n" for step in (5, 6))
    assert shown.last_standing(first + second[:-10]) == shown.Standing("train a: b, about c", 5, 10, "steps", 3, 4)
    assert shown.last_standing(first.partition("\n")[2][3:]) is None
    assert shown.last_standing("train a: 5/10 steps, 3 s, about 4 s left\n") is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (3600 * 7 + 20 * 60 + 59, "7 h 20 min"),
        (86400 * 5 + 3 * 3600, "5 d 3 h"),
        (86400 + 59, "1 d"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert shown.time_in_words(seconds) == text


@pytest.mark.parametrize("columns", ["80", "160"])
def test_a_terminal_gets_a_bar_with_the_note(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", columns)
    with shown.progress("train pythia-70m", 143000, "steps", done=2) as tell:
        tell(50000, "loss 3.2100, lr 0.00012, 4220 tokens/s")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert all(part in text for part in ("train pythia-70m", "50000/143000", "loss 3.2100", "0.00012", "4220"))
    assert "…" not in text


def test_other_processes_of_the_same_work_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with shown.progress("train a", 10, "steps", shown=False) as tell:
        tell(10, "loss 1.0")
    assert capsys.readouterr().err == ""
