"""Snakemake's dry run in words; the graph is made up, with the attributes of Snakemake's own."""

from __future__ import annotations

import json
import subprocess
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scripts.common.errors import UserError
from scripts.common.units import brief
from scripts.operate.why import why
from scripts.operate.why.dry_run import CHANGED, Job, changes, of_graph, told, with_artefacts

BEFORE = "{'corpus': 'standard', 'sequences': 32}"
AFTER = BEFORE.replace("32", "64")
PARAMS = {"params_changed": SimpleNamespace(only_old={BEFORE}, only_new={AFTER})}
ORDER, PIECES = "data/standard/order-1234/manifest.json", "data/standard/pieces/part-0"
SMALL, TINY = ["models/b/manifest.json", "models/a/manifest.json"], ["models/c/manifest.json"]
Levels = list[list[tuple[str, str, list[str], dict[str, Any]]]]  # rule, message, output, reason
LEVELS: Levels = [
    [
        (
            "tokenize",
            "Tokenize standard, part 0",
            [PIECES],
            {"missing_output": {PIECES}, "input_changed": True, "software_stack_changed": True, **PARAMS},
        ),
        ("order", "Order the rows of standard by data seed 1234", [ORDER], PARAMS),
    ],
    [
        ("convert_0_512", "Convert pythia-tiny, steps 0 1", TINY, {"updated_input_run": {"x", "y"}}),
        (
            "convert_0_512",
            "Convert pythia-small, steps 0 1",
            SMALL,
            {"missing_output": set(SMALL), "updated_input_run": {"x"}, "updated_input": {"x"}},
        ),
    ],
    [("all", "The study is complete", [], {"updated_input_run": set(SMALL)})],
]


class Graph:
    """As much of Snakemake's as is read."""

    def __init__(self, levels: Levels) -> None:
        self.levels = [[job(*told) for told in level] for level in levels]
        self.jobs = list(chain(*self.levels))

    def needrun_jobs(self, *, exclude_finished: bool) -> list[str]:
        return [job.message for job in self.jobs] if not exclude_finished else []

    def toposorted(self, needed: set[str]) -> list[list[SimpleNamespace]]:
        return [[job for job in level if job.message in needed] for level in self.levels]

    def reason(self, job: SimpleNamespace) -> SimpleNamespace:
        return job.reason  # type: ignore[no-any-return]


def job(rule: str, message: str, output: list[str], reason: dict[str, Any]) -> SimpleNamespace:
    sets, flags = ("missing_output", "updated_input", "updated_input_run"), ("forced", "params_changed", *CHANGED)
    none: dict[str, Any] = {**{name: set() for name in sets}, **dict.fromkeys(flags, False)}
    named = SimpleNamespace(name=rule)
    return SimpleNamespace(rule=named, message=message, output=output, reason=SimpleNamespace(**{**none, **reason}))


def dry_run(levels: Levels) -> list[Job]:
    """The jobs of a graph, as they are read from the file that Snakemake's process wrote."""
    written = json.loads(json.dumps(of_graph(Graph(levels))))
    assert written["graph"] == sum(map(len, levels))
    return [Job(**job) for job in written["jobs"]]


def test_roots_come_before_what_follows_and_batches_count_as_their_stage() -> None:
    assert told("the study", dry_run(LEVELS)) == [
        "the study: 5 jobs would run: order 1, tokenize 1, convert 2, all 1.",
        "",
        "Why:",
        "  Order the rows of standard by data seed 1234",
        "    settings changed: sequences: 32 there, 64 asked",
        "  Tokenize standard, part 0",
        "    settings changed: sequences: 32 there, 64 asked",
        "    temporary, and read by a job that runs: data/standard/pieces/part-0",
        "    made from other files than the study now names",
        "    the software environment changed",
        "",
        "Following from these, and for reasons of their own:",
        "  Convert pythia-small, steps 0 1",
        "    missing: models/a/manifest.json; models/b/manifest.json",
        "",
        "Only because of these, 2 jobs:",
        "  Convert pythia-tiny, steps 0 1",
        "  The study is complete",
    ]


def test_each_forced_job_names_what_is_its_own() -> None:
    """Of artefacts that are not the study's: their settings, or what they were made from, if no job before tells it."""
    other = {
        ORDER: ["sequences: 32 there, 64 asked"],
        PIECES: ["made from another data/clusters/manifest.json than there is now"],
        "models/a/manifest.json": ["made from checkpoints/a, which is not the study's"],
        "models/b/manifest.json": ["precision: fp32 there, fp16 asked"],
        "models/c/manifest.json": ["made from checkpoints/c, which is not the study's"],
        "data/tasks/manifest.json": ["items: 10 there, 8 asked"],
    }
    forced = [[(rule, message, made, {"forced": True}) for rule, message, made, _ in level] for level in LEVELS[:1]]
    after = [[(rule, message, made, {"updated_input_run": {"x"}}) for rule, message, made, _ in LEVELS[1]]]
    lines = told("the study", [with_artefacts(job, other) for job in dry_run([*forced, *after, *LEVELS[2:]])])
    assert lines[3:7] == [
        "  Order the rows of standard by data seed 1234",
        "    settings changed: sequences: 32 there, 64 asked",
        "  Tokenize standard, part 0",
        "    made from what is another now: made from another data/clusters/manifest.json than there is now",
    ]
    both = lines.index("Following from these, and for reasons of their own:")
    assert lines[both + 1 : both + 4] == [
        "  Convert pythia-small, steps 0 1",
        "    settings changed: precision: fp32 there, fp16 asked",
        "",
    ]
    assert "items: 10" not in "\n".join(lines)


def test_a_forced_job_whose_artefacts_are_the_studys_left_them_half_made() -> None:
    (job,) = dry_run([[("order", "Order", [ORDER], {"forced": True})]])
    assert (
        told("x", [with_artefacts(job, {PIECES: ["rows: 1 there, 2 asked"]})])[-1]
        == "    left half made by a killed job"
    )


def test_nothing_to_do_is_up_to_date() -> None:
    assert told("x.json", []) == ["x.json: up to date, nothing would run."]


@pytest.mark.parametrize("written", [None, '{"graph": 0, "jobs": []}'])
def test_a_dry_run_that_failed_is_refused(monkeypatch: pytest.MonkeyPatch, written: str | None) -> None:
    """In Snakemake, before its graph was whole, or in what reads the graph, as if that had other attributes."""

    def snakemake(_study: Path, _directory: Path, _target: str | None, out: Path) -> subprocess.CompletedProcess[str]:
        if written:
            out.write_text(written)
        return subprocess.CompletedProcess([], int(written is not None), stdout="", stderr="AttributeError: reason\n")

    monkeypatch.setattr(why, "snakemake", snakemake)
    with pytest.raises(UserError, match="dry run failed:\nAttributeError: reason"):
        why.dry_run(Path("study.yaml"), Path(), "x.json", [])


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ([BEFORE], [AFTER], ["sequences: 32 there, 64 asked"]),
        (["{'a': {'b': 1}}"], ["{'a': {'b': None}}"], ["a.b: 1 there, None asked"]),
        (["[0, 1]"], ["[0, 1, 2]"], ["[0, 1] there, [0, 1, 2] asked"]),
        ([], ["'x'"], ["nothing there, x asked"]),
        (["2", "{'a': 1}"], ["{'a': 2}", "3"], ["a: 1 there, 2 asked", "2 there, 3 asked"]),
        (["<function f>"], ["1"], ["<function f> there, 1 asked"]),
    ],
)
def test_changed_params_are_told_key_by_key(old: list[str], new: list[str], lines: list[str]) -> None:
    assert changes(old, new) == lines


def test_lists_are_brief_and_never_hide_a_single_item() -> None:
    assert brief("abcd") == ["a", "b", "c", "d"]
    assert brief("abcdea") == ["a", "b", "c", "and 2 more"]
