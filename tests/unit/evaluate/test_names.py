"""Task names without lm-eval, and what a slip in one is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_the_folders_of_names_hold_them_and_all_their_members() -> None:
    asked = ["mmlu", "lambada_openai", "ai2_arc", "wsc"]  # a group, a task, a tag, a task below a deeper folder
    folders = names.folders_of(asked)
    assert [folder.name for folder in folders] == ["arc", "lambada", "mmlu", "super_glue"]
    found = set().union(*map(names.names_below, folders))
    assert {*asked, "mmlu_virology", "mmlu_stem", "arc_challenge"} <= found
    assert names.folders_of([]) == []


def test_a_users_folder_is_known_and_its_slips_are_told(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/one.yaml").write_text("task: my_task\ndataset_path: json\n")
    names.check_tasks(["my_task", "castalia_agreement"], str(tmp_path))
    with pytest.raises(UserError, match=r"write: +my_task"):
        names.check_tasks(["my_tsak"], str(tmp_path))
    assert names.task_files(str(tmp_path)) == [str(tmp_path / "deep/one.yaml")]
    assert list(names.task_hashes(str(tmp_path))) == ["deep/one.yaml"]
    assert names.task_files(None) == [] and names.task_hashes(None) == {}


@pytest.mark.parametrize("content", [None, "dataset_path: json\n"])
def test_a_folder_without_a_task_is_refused(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "mine"
    if content:
        folder.mkdir()
        (folder / "a.yaml").write_text(content)
    with pytest.raises(UserError, match="is no folder" if content is None else "holds no lm-eval task file"):
        names.check_tasks(["my_task"], str(folder))


def test_a_task_file_that_is_no_yaml_is_told_before_the_first_job(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: mine\nprocess_docs: !function own.docs\n")
    names.check_tasks(["mine"], str(tmp_path))  # lm-eval's own tags are no mistake
    (tmp_path / "mine.yaml").write_text("task: mine\n  bad: [\n")
    with pytest.raises(UserError, match=r"mine\.yaml: line \d+, column \d+: a colon that can't stand here"):
        names.check_tasks(["mine"], str(tmp_path))
