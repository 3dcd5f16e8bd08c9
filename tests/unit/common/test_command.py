"""The command line that commands share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common.command import Parser, seen
from scripts.common.environment import ROOT, find_package
from scripts.common.errors import UserError

OF_NO_STUDY = {"schema.py", "slurm_commands.py"}  # write this project's own docs, stand before Slurm's commands
COMMANDS = [
    path
    for path in sorted((ROOT / "scripts").glob("*/*.py"))
    if "\ndef main(" in path.read_text() and path.name not in OF_NO_STUDY
]


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


def test_each_path_of_a_list_is_meant_like_one(parser: Parser) -> None:
    parser.add_argument("--config", type=Path, nargs="+")
    given = parser.parse_args(["--directory", "../there", "--config", "mine.yaml", "theirs.yaml", "none.yaml"])
    assert [path.is_absolute() for path in given.config] == [True, False, False] and given.config[0].exists()


def test_a_command_that_stays_where_the_person_stands_sees_the_same_paths(parser: Parser, tmp_path: Path) -> None:
    there = Path("../there")
    assert seen(Path("theirs.yaml"), there) == there / "theirs.yaml"
    assert seen(Path("both.yaml"), there).read_text() == "there/both.yaml"
    assert seen(Path("mine.yaml"), there) == Path("mine.yaml")
    assert seen(tmp_path / "here/both.yaml", there).read_text() == "here/both.yaml"


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_command_of_a_study_takes_a_directory(path: Path) -> None:
    text = path.read_text()
    assert "scripts.common.command import Parser" in text or '"--directory"' in text


def test_a_folder_that_is_not_there_is_refused(parser: Parser) -> None:
    with pytest.raises(UserError, match="--directory: nowhere is no folder"):
        parser.parse_args(["--directory", "nowhere"])


def test_child_processes_find_the_package_also_beside_another_of_its_name(parser: Parser, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/__init__.py").write_text("raise SystemExit('not this one')")
    find_package()
    command = [sys.executable, "-m", "scripts.operate", "watch", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
