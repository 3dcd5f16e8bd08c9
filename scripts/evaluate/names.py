"""Names of the tasks a study may ask for, known without importing lm-eval.

The workflow's start-up asks this module, so it imports nothing heavy; lm-eval's own index takes many
seconds because it parses all of its task files.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec

from scripts.common.errors import UserError, explain, near

LAST_WORD = "castalia_last_word"
CONTINUATION = "castalia_continuation"
AGREEMENT = "castalia_agreement"
PERPLEXITY = "castalia_perplexity"
OWN_TASKS = (LAST_WORD, CONTINUATION, AGREEMENT, PERPLEXITY)

# Keys at the start of a line only: nested ones, such as a group's members, name nothing new.
ONE_NAME = re.compile(rb"""^"?(?:task|group|tag)"?: *["']?([^\s"'#\[\-][^"'#\r\n]*)""", re.MULTILINE)
TAG_LIST = re.compile(rb"""^"?tag"?: *(?:\[([^\]]*)\]|\r?\n((?: *- *[^\r\n]*\r?\n?)+))""", re.MULTILINE)
LISTED = re.compile(rb"[A-Za-z0-9][\w.+-]*")


def known_tasks() -> list[str]:
    """Our own tasks and every task, group and tag of the installed lm-eval, sorted."""
    return sorted(set(OWN_TASKS) | names_in(_all_task_files(_tasks_folder())))


def names_in(text: bytes) -> set[str]:
    """Task, group and tag names that lm-eval YAML text gives at its top level."""
    found = {name.strip() for name in ONE_NAME.findall(text)}
    for inline, listed in TAG_LIST.findall(text):
        found |= set(LISTED.findall(inline or listed))
    return {name.decode() for name in found} - {"null"}


def check_tasks(names: list[str]) -> None:
    """Raise UserError for the first name that is neither ours nor lm-eval's, with the nearest known one."""
    foreign = [name for name in names if name not in OWN_TASKS]
    if not foreign:
        return
    for name in foreign:  # a slip in one of our names should not depend on what lm-eval calls its own
        if name.startswith("castalia"):
            _refuse(name, list(OWN_TASKS))
    known = known_tasks()
    for name in foreign:
        if name not in known:
            _refuse(name, known)


def _refuse(name: str, known: list[str]) -> None:
    allowed = f"{', '.join(OWN_TASKS)}, or a task, group or tag of lm-eval (`lm-eval ls tasks` lists them)"
    raise UserError(explain("evaluation.task_sets: task", name, allowed, near(name, known)))


def _tasks_folder() -> str:
    """Where the installed lm-eval keeps its task files; raises UserError if it is not installed."""
    spec = find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("lm-eval is not installed, so its tasks can't be named; install envs/requirements.lock")
    return f"{next(iter(spec.submodule_search_locations))}/tasks"


def _all_task_files(folder: str) -> bytes:
    """All task files below the folder in one text: plain strings and one search, as there are over ten thousand.

    Templates that task files include, and that may give them their tag, are named without a suffix.
    """
    texts = []
    for root, _, files in os.walk(folder):
        for file in files:
            if file.endswith("yaml") or "." not in file:
                with open(f"{root}/{file}", "rb", buffering=0) as handle:  # noqa: PTH123
                    texts.append(handle.read())
    return b"\n".join(texts)
