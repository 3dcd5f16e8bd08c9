"""The command line that commands share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common.command import Parser
from scripts.common.environment import find_package
from scripts.common.errors import UserError


@pytest.fixture
def parser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Parser:
    for name in ("PYTHONPATH", "PYTHONSAFEPATH"):
        monkeypatch.setenv(name, "")
    monkeypatch.chdir(tmp_path)
    for name in ("here/mine.yaml", "here/both.yaml", "there/both.yaml", "there/theirs.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path / "here")
    made = Parser()
    made.add_argument("--study", type=Path)
    return made


@pytest.mark.parametrize(("name", "text"), [("mine", "here/mine"), ("both", "there/both"), ("theirs", "there/theirs")])
def test_a_path_is_one_of_the_folder_or_else_from_where_the_person_stands(parser: Parser, name: str, text: str) -> None:
    given = parser.parse_args(["--directory", "../there", "--study", f"{name}.yaml"])
    assert Path.cwd().name == "there"
    assert given.study.read_text() == f"{text}.yaml"


def test_a_folder_that_is_not_there_is_refused(parser: Parser) -> None:
    with pytest.raises(UserError, match="--directory: nowhere is no folder"):
        parser.parse_args(["--directory", "nowhere"])


def test_child_processes_find_the_package_also_beside_another_of_its_name(parser: Parser, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/__init__.py").write_text("raise SystemExit('not this one')")
    find_package()
    command = [sys.executable, "-m", "scripts.common.watch", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
