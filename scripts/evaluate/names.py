"""Names of the tasks a study may ask for, known without importing lm-eval.

The workflow's start-up asks this module, so it imports nothing heavy; lm-eval's own index takes many
seconds because it parses all of its task files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from scripts.common.errors import UserError, explain, near
from scripts.common.files import read_yaml, sha256_file

LAST_WORD = "castalia_last_word"
CONTINUATION = "castalia_continuation"
AGREEMENT = "castalia_agreement"
PERPLEXITY = "castalia_perplexity"
PRONOUNS = "castalia_pronouns"
ARITHMETIC = "castalia_arithmetic"
WITH_EXAMPLES = (LAST_WORD, CONTINUATION, ARITHMETIC)  # the others take none in the prompt
OWN_TASKS = (LAST_WORD, CONTINUATION, AGREEMENT, PERPLEXITY, PRONOUNS, ARITHMETIC)

# Keys at the start of a line only: nested ones, such as a group's members, name nothing new.
ONE_NAME = re.compile(rb"""^"?(?:task|group|tag)"?: *["']?([^\s"'#\[\-][^"'#\r\n]*)""", re.MULTILINE)
TAG_LIST = re.compile(rb"""^"?tag"?: *(?:\[([^\]]*)\]|\r?\n((?: *- *[^\r\n]*\r?\n?)+))""", re.MULTILINE)
LISTED = re.compile(rb"[A-Za-z0-9][\w.+-]*")


def known_tasks() -> list[str]:
    """Our own tasks and every task, group and tag of the installed lm-eval, sorted."""
    return sorted(set(OWN_TASKS) | names_below(Path(_tasks_folder())))


def names_below(folder: Path) -> set[str]:
    """Task, group and tag names of all task files below a folder."""
    return names_in(b"\n".join(text for _, text in _task_files(str(folder))))


def folders_of(names: Iterable[str]) -> list[Path]:
    """The folders of lm-eval's collection in which these names are given, e.g. tasks/mmlu; sorted."""
    wanted = {name.encode(): name for name in names}
    root = _tasks_folder()
    found = set()
    for path, text in _task_files(root) if wanted else ():
        if any(name in text for name in wanted) and names_in(text) & set(wanted.values()):
            found.add(Path(root) / Path(path).relative_to(root).parts[0])
    return sorted(found)


def names_in(text: bytes) -> set[str]:
    """Task, group and tag names that lm-eval YAML text gives at its top level."""
    found = {name.strip() for name in ONE_NAME.findall(text)}
    for inline, listed in TAG_LIST.findall(text):
        found |= set(LISTED.findall(inline or listed))
    return {name.decode() for name in found} - {"null"}


def check_tasks(names: list[str], include_path: str | None = None) -> None:
    """Raise UserError for the first name that is not ours, the included folder's or lm-eval's, with the nearest one."""
    own = {*OWN_TASKS, *_included(include_path)}
    foreign = [name for name in names if name not in own]
    if not foreign:
        return
    for name in foreign:  # a slip in one of our names should not depend on what lm-eval calls its own
        if name.startswith("castalia"):
            _refuse(name, sorted(own))
    known = sorted({*known_tasks(), *own})
    for name in foreign:
        if name not in known:
            _refuse(name, known)


def _included(include_path: str | None) -> set[str]:
    """Names in a user's folder; raises UserError if there is no task in it, or a file that is no YAML."""
    if include_path is None:
        return set()
    key, folder = "evaluation.task_sets: include_path", Path(include_path)
    if not folder.is_dir():
        raise UserError(f"{key}: {folder} is no folder (seen from {Path.cwd()})")
    if not (found := names_below(folder)):
        raise UserError(f"{key}: {folder} holds no lm-eval task file (*.yaml with `task: <name>`)")
    for path, _ in _task_files(str(folder)):
        if path.endswith(("yaml", "yml")):  # lm-eval would leave out one that it can't read
            read_yaml(Path(path), tags=True)
    return found


def task_hashes(include_path: str | None) -> dict[str, str]:
    """{path below a user's folder of tasks: its sha256}."""
    return {
        Path(path).relative_to(include_path or "").as_posix(): sha256_file(Path(path))
        for path in task_files(include_path)
    }


def task_files(include_path: str | None) -> list[str]:
    """Every file of a user's folder of tasks, sorted: what a change of makes its scores out of date."""
    if include_path is None:
        return []
    files = (path for path in Path(include_path).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(path.as_posix() for path in files)


def refuse_python(include_path: str | None) -> None:
    """Refuse a folder of tasks whose files name Python, which lm-eval would run; raises UserError with file and fix.

    So is what can't be told to name none: a file that is no plain YAML, or that includes one from elsewhere.
    """
    if include_path is None:
        return
    fix = "\n  lm-eval would run it; if you trust whoever wrote it, add --task-code"
    files = {Path(path).resolve(): Path(path) for path, _ in _task_files(include_path)}
    for path in files.values():
        try:
            content = read_yaml(path)
        except UserError as error:
            raise UserError(f"{error}{fix}") from None
        included = content.get("include", [])
        for name in included if isinstance(included, list) else [included]:
            if (path.parent / str(name)).resolve() not in files:
                raise UserError(f"{path}: includes {name}, which is no task file of {include_path}{fix}")


def _refuse(name: str, known: list[str]) -> None:
    allowed = f"{', '.join(OWN_TASKS)}, or a task, group or tag of lm-eval (`lm-eval ls tasks` lists them)"
    raise UserError(explain("evaluation.task_sets: task", name, allowed, near(name, known)))


def _tasks_folder() -> str:
    """Where the installed lm-eval keeps its task files; raises UserError if it is not installed."""
    spec = find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("lm-eval is not installed, so its tasks can't be named; install envs/requirements.lock")
    return f"{next(iter(spec.submodule_search_locations))}/tasks"


def _task_files(folder: str) -> Iterator[tuple[str, bytes]]:
    """Path and text of all task files below a folder; plain strings, as there are over ten thousand.

    Templates that task files include, and that may give them their tag, are named without a suffix.
    """
    for root, _, files in os.walk(folder):
        for file in files:
            if file.endswith(("yaml", "yml")) or "." not in file:
                with open(f"{root}/{file}", "rb", buffering=0) as handle:  # noqa: PTH123
                    yield f"{root}/{file}", handle.read()
