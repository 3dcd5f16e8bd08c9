"""House rules of the Snakemake files, read as text."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from scripts.study.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "rules").glob("*.smk"))
JOBS = [
    (path.name, body)
    for path in FILES
    for body in re.split(r"^\s*rule\b", path.read_text(), flags=re.MULTILINE)[1:]
    if "shell:" in body
]


@pytest.mark.parametrize(("file", "body"), JOBS, ids=[f"{f}:{b.strip().splitlines()[0]}" for f, b in JOBS])
def test_every_job_has_log_benchmark_message_resources_and_environment(file: str, body: str) -> None:
    for directive in ("log:", "benchmark:", "message:", "resources:", "conda:"):
        assert re.search(rf"^\s+{directive}", body, flags=re.MULTILINE), directive
    assert ".jsonl" in body and "mem_mb" in body
    assert body.count("python -m ") == 1, "a rule calls one command"


def inputs(path: Path) -> list[ast.Call]:
    """The inputs of a file's rules, each as a call of what stands below `input:`."""
    blocks = re.findall(r"^( +)input:\n((?:\1 +.*\n|\n)+)", path.read_text(), flags=re.MULTILINE)
    calls = [ast.parse(f"input({block})", mode="eval").body for _, block in blocks]
    return [call for call in calls if isinstance(call, ast.Call)]


@pytest.mark.parametrize("path", [ROOT / "Snakefile", *FILES], ids=lambda path: path.name)
def test_inputs_of_a_rule_with_several_are_named(path: Path) -> None:
    several = [call for call in inputs(path) if len(call.args) + len(call.keywords) > 1]
    assert [ast.unparse(call) for call in several if call.args] == []


def test_inputs_are_seen() -> None:
    seen = [call for path in FILES for call in inputs(path)]
    assert len(seen) >= 35 and sum(len(call.keywords) > 1 for call in seen) >= 20


def test_rule_files_stay_readable() -> None:
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 70
    assert all(len(path.read_text().splitlines()) <= 200 for path in FILES)
    assert len(JOBS) >= 15


def test_every_rule_file_is_included_once() -> None:
    """Those of the stages are by their declaration."""
    named = re.findall(r'^include: "rules/(\w+)\.smk"', (ROOT / "Snakefile").read_text(), flags=re.MULTILINE)
    assert sorted([*named, *{stage.package for stage in STAGES}]) == [path.stem for path in FILES]


def test_scripts_never_import_snakemake() -> None:
    for path in (ROOT / "scripts").glob("**/*.py"):
        assert not re.search(r"^\s*(from|import) snakemake", path.read_text(), flags=re.MULTILINE), path


def test_modules_stay_readable() -> None:
    for path in (ROOT / "scripts").glob("**/*.py"):
        assert len(path.read_text().splitlines()) <= 450, path
