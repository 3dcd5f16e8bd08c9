"""Snakemake's dry run in words; the texts are cut from real dry runs of the smoke study."""

from __future__ import annotations

import json

import pytest

from scripts.common.errors import UserError
from scripts.common.words import brief
from scripts.operate.why.dry_run import STALE, changes, read_dry_run, told

HEAD = """Building DAG of jobs...
Job stats:
job              count
-------------  -------
order                1
convert_0_512        2
tokenize             1
all                  1
total                5


"""
BEFORE = "{'corpus': 'standard', 'rows': 32}"
PARAMS = (
    "Params have changed since last execution: Union of exclusive params before and now across all output: "
    f"before: {BEFORE} now: {{'corpus': 'standard', 'rows': 64}} "
)
BODY = f"""[Sat Nov 21 18:01:47 2026]
Job 1: Order the rows of standard by data seed 1234
Reason: {PARAMS}
[Sat Nov 21 18:01:47 2026]
Job 7: Tokenize standard, part 0
Reason: Missing output files: data/standard/pieces/part-0; Set of input files has changed since last execution; \
{PARAMS}; Software environment definition has changed since last execution
[Sat Nov 21 18:01:47 2026]
Job 21: Convert pythia-small, steps 0 1
Reason: Missing output files: models/b/manifest.json, models/a/manifest.json; Input files updated by another job: x.json
[Sat Nov 21 18:01:47 2026]
Job 22: Convert pythia-tiny, steps 0 1
Reason: Input files updated by another job: x.json, y.json
[Sat Nov 21 18:01:47 2026]
Job 0: The study is complete
Reason: Input files updated by another job: models/a/manifest.json
{HEAD}
Reasons:
    (check individual jobs above for details)
This was a dry-run (flag -n). The order of jobs does not reflect the order of execution.
"""


def test_roots_come_before_what_follows_and_batches_count_as_their_stage() -> None:
    assert told("the study", read_dry_run(HEAD + BODY)) == [
        "the study: 5 jobs would run: order 1, convert 2, tokenize 1, all 1.",
        "",
        "Why:",
        "  Order the rows of standard by data seed 1234",
        "    settings changed: rows: 32 there, 64 asked",
        "  Tokenize standard, part 0",
        "    settings changed: rows: 32 there, 64 asked",
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
    forced = {
        "Order the rows of standard by data seed 1234": ["data/standard/order-1234/manifest.json"],
        "Tokenize standard, part 0": ["data/x"],
        "Convert pythia-small, steps 0 1": ["models/a/manifest.json", "models/b/manifest.json"],
    }
    other = {
        "data/standard/order-1234/manifest.json": ["rows: 32 there, 64 asked"],
        "data/x": ["made from another data/clusters/manifest.json than there is now"],
        "models/a/manifest.json": ["made from checkpoints/a, which is not the study's"],
        "models/b/manifest.json": ["precision: fp32 there, fp16 asked"],
        "data/tasks/manifest.json": ["items: 10 there, 8 asked"],
    }
    text = (HEAD + BODY).replace(f"Reason: {PARAMS}\n", "Reason: Forced execution\n")
    text = text.replace("Missing output files: data/standard/pieces/part-0; Set of input files has changed since last "
                        f"execution; {PARAMS}; Software environment definition has changed since last execution",
                        "Forced execution")  # fmt: skip
    text = text.replace("Missing output files: models/b/manifest.json, models/a/manifest.json", "Forced execution")
    text += "".join(f"{STALE} {json.dumps(pair)}\n" for pair in forced.items())
    lines = told("the study", read_dry_run(text, other))
    assert lines[3:7] == [
        "  Order the rows of standard by data seed 1234",
        "    settings changed: rows: 32 there, 64 asked",
        "  Tokenize standard, part 0",
        "    made from what is another now: made from another data/clusters/manifest.json than there is now",
    ]
    both = lines.index("Following from these, and for reasons of their own:")
    assert lines[both + 1 : both + 3] == [
        "  Convert pythia-small, steps 0 1",
        "    settings changed: precision: fp32 there, fp16 asked",
    ]
    assert "items: 10" not in "\n".join(lines)


def test_nothing_to_do_is_up_to_date() -> None:
    done = read_dry_run("Nothing to be done (all requested files are present and up to date).\n")
    assert told("x.json", done) == ["x.json: up to date, nothing would run."]


def test_another_form_of_the_text_is_refused() -> None:
    with pytest.raises(UserError, match="5 jobs counted, 4 told"):
        read_dry_run(HEAD + BODY.replace("Job 22: ", "Job 22 "))


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        (BEFORE, BEFORE.replace("32", "64"), ["rows: 32 there, 64 asked"]),
        ("{'a': {'b': 1}}", "{'a': {'b': None}}", ["a.b: 1 there, None asked"]),
        ("[0, 1]", "[0, 1, 2]", ["[0, 1] there, [0, 1, 2] asked"]),
        ("<nothing exclusive>", "'x'", ["nothing there, x asked"]),
        ("2,{'a': 1}", "{'a': 2},3", ["a: 1 there, 2 asked", "2 there, 3 asked"]),
        ("<function f>", "1", ["<function f> there, 1 asked"]),
    ],
)
def test_changed_params_are_told_key_by_key(old: str, new: str, lines: list[str]) -> None:
    assert changes(old, new) == lines


def test_lists_are_brief_and_never_hide_a_single_item() -> None:
    assert brief("abcd") == ["a", "b", "c", "d"]
    assert brief("abcdea") == ["a", "b", "c", "and 2 more"]
