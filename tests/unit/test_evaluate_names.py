"""Task names without lm-eval, and what a slip in one is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scripts.common.errors import UserError
from scripts.evaluate import names


def test_known_tasks_holds_ours_and_pythias() -> None:
    known = set(names.known_tasks())
    published = {"lambada_openai", "piqa", "winogrande", "wsc", "arc_easy", "arc_challenge", "sciq", "logiqa", "mmlu"}
    assert published | {"blimp", "ai2_arc", "crows_pairs_english"} | set(names.OWN_TASKS) <= known


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"task: one\ndataset_path: x\n", {"one"}),
        (b'"task": "two_words"\r\ntag: three\r\n', {"two_words", "three"}),
        (b"group: all\ntask:\n  - one\n  - task: two\n", {"all"}),
        (b"tag: [a, 'b']\ntask: c  # why\n", {"a", "b", "c"}),
        (b"tag:\n  - d\n- e\noutput_type: f\n", {"d", "e"}),
        (b"task: \ntag: null\n", set()),
    ],
)
def test_names_are_read_at_the_top_level_only(text: bytes, expected: set[str]) -> None:
    assert names.names_in(text) == expected


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("castalia_last_wrod", "castalia_last_word"), ("lambada_opnai", "lambada_openai"), ("arc-easy", "arc_easy")],
)
def test_a_slip_is_told_the_near_name(wrong: str, near: str) -> None:
    with pytest.raises(UserError, match=rf"'{wrong}' is not allowed(.|\n)*write: +{near}"):
        names.check_tasks(["castalia_agreement", wrong])


def test_our_own_names_need_no_look_at_lm_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "known_tasks", lambda: pytest.fail("lm-eval was asked"))
    names.check_tasks(list(names.OWN_TASKS))


def test_a_missing_lm_eval_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="lm-eval is not installed"):
        names.check_tasks(["piqa"])


def test_the_module_and_the_commands_help_import_nothing_heavy() -> None:
    code = (
        "import sys; import scripts.evaluate.names, scripts.evaluate.evaluate\n"
        "print([m for m in ('torch', 'transformers', 'lm_eval', 'pandas', 'pyarrow', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
