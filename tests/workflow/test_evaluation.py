"""Evaluation through the workflow: one step again, other numbers of examples, tasks of a folder, all by one line."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.workflow.conftest import Workflow

SET = "  task_sets:\n"
FEW = "    two-shot: {shots: 2, tasks: [castalia_last_word, castalia_agreement]}\n"
MINE = "    mine: {shots: 0, tasks: [my_echo], include_path: mine}\n"
TASK = """task: my_echo
dataset_path: json
dataset_kwargs: {data_files: {test: mine/echo.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: choices
doc_to_target: answer
metric_list: [{metric: acc}]
"""


def test_a_deleted_step_is_scored_again_alone_to_the_same_bytes(copied: Callable[..., Workflow]) -> None:
    workflow = copied()
    folder = workflow.folder / "results/evals/pythia-tiny/zero-shot"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    path = folder / "step4.json"
    path.unlink()
    target = str(path.relative_to(workflow.folder))
    assert workflow.planned(target) == {"evaluate": 1}
    workflow.succeed(target)
    (log,) = (workflow.folder / "logs/evaluate").glob("pythia-tiny_zero-shot_*.log")
    assert "1 of 1 steps scored" in log.read_text()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert workflow.planned("evaluate") == {}


def test_a_task_set_and_a_folder_of_tasks_become_targets_by_a_line(copied: Callable[..., Workflow]) -> None:
    workflow = copied((SET, SET + FEW + MINE))
    mine = workflow.folder / "mine"
    mine.mkdir()
    (mine / "echo.yaml").write_text(TASK)
    item = {"question": "The king is a", "choices": ["king", "law"], "answer": 0}
    (mine / "echo.jsonl").write_text(json.dumps(item) + "\n")
    targets = [f"results/evals/pythia-tiny/{name}/step8.json" for name in ("two-shot", "mine")]
    assert workflow.planned(*targets) == {"evaluate": 2}
    workflow.succeed(*targets)
    few, own = (json.loads((workflow.folder / target).read_text()) for target in targets)
    assert (few["shots"], few["n"]) == (2, {"castalia_last_word": 10, "castalia_agreement": 10})
    assert own["n"] == {"my_echo": 1} and set(own["task_files"]) == {"echo.yaml", "echo.jsonl"}
    assert workflow.planned(*targets) == {}
    (mine / "echo.jsonl").write_text(json.dumps(item | {"answer": 1}) + "\n")
    assert workflow.planned(*targets) == {"evaluate": 1}


def test_a_slip_in_a_users_task_and_missing_data_end_before_the_first_job(copied: Callable[..., Workflow]) -> None:
    workflow = copied((SET, SET + MINE.replace("my_echo", "my_ehco")))
    (workflow.folder / "mine").mkdir()
    (workflow.folder / "mine/echo.yaml").write_text(TASK)
    refused = workflow.run("evaluate")
    assert refused.returncode != 0 and "write:   my_echo" in refused.stdout + refused.stderr
    text = workflow.study_file.read_text().replace(
        MINE.replace("my_echo", "my_ehco"), FEW.replace("castalia_agreement", "sciq")
    )
    workflow.study_file.write_text(text)
    refused = workflow.run("evaluate")
    said = refused.stdout + refused.stderr
    assert refused.returncode != 0 and "the data of sciq are not in data/hub" in said and "make fetch STUDY=" in said
    done = workflow.command_line("scripts.evaluate", "fetch", "--directory", ".", study_file=workflow.study_file)
    assert done.returncode == 2 and "not fetched: sciq" in done.stderr
