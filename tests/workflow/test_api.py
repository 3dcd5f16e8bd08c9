"""The interface for analysts on the finished smoke study, and the notebook that goes through it."""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from scripts import api
from scripts.common.errors import UserError
from tests.workflow.conftest import ROOT, Workflow

RUN = "pythia-small"


@pytest.fixture(scope="module")
def opened(finished: Workflow) -> api.Suite:
    return api.study(finished.folder)


def test_tables_come_by_name_and_the_working_directory_stays(opened: api.Suite) -> None:
    here = Path.cwd()
    assert sorted(opened.runs()["run"]) == sorted(opened.study.runs)
    assert set(opened.losses()["run"]) == set(opened.held_out()["run"]) == set(opened.study.runs)
    assert {"castalia_agreement"} <= set(opened.scores()["task"]) and len(opened.memorization())
    assert len(opened.table("corpora")) and opened.steps(RUN) == [0, 1, 2, 4, 8]
    assert Path.cwd() == here and RUN not in repr(opened) and "3 runs" in repr(opened)


def test_a_checkpoint_has_on_its_next_batch_the_loss_that_was_logged(opened: api.Suite) -> None:
    batch = opened.sequences(RUN, 4)
    assert batch.tokens.shape == (4, 65) and batch.sample_indices == range(16, 20)
    assert batch.texts[0] == opened.tokenizer().decode(batch.tokens[0])
    assert set(batch.components) <= {"novels", "verse", "planted"}
    tokens = torch.tensor(batch.tokens)
    with torch.no_grad():
        logits = opened.model(RUN, 4)(tokens[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).item()
    assert loss == pytest.approx(opened.losses().query(f"run == '{RUN}' and step == 5")["loss"].item(), abs=1e-4)


def test_items_and_scored_sequences_are_those_of_a_checkpoint(opened: api.Suite) -> None:
    items = opened.items(RUN, 8)
    accuracy = items.query("task == 'castalia_agreement' and metric == 'acc,none'")["value"].mean()
    table = opened.scores().query(f"run == '{RUN}' and step == 8 and task == 'castalia_agreement' and metric == 'acc'")
    assert accuracy == table["value"].item()
    assert items.equals(opened.items(RUN, 8, "zero-shot"))
    questions = opened.questions("castalia_agreement")
    assert questions.index.name == "item" and set(questions["label"]) == {0, 1}
    scored = opened.scored(RUN, 8)
    assert {"sample", "canary"} <= set(scored["chosen"]) and np.isfinite(scored["score"]).all()


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda opened: opened.table("loses"), r"table: 'loses'(.|\n)*write: +losses"),
        (lambda opened: opened.model(RUN, 3), r"step: 3 is not allowed\n +allowed: 0, 1, 2, 4, 8"),
        (lambda opened: opened.sequences(RUN, 8), r"step: 8 (.|\n)*0 to 7, whose batches pythia-small reads"),
        (lambda opened: opened.sequences("pythia-smal", 0), r"run: 'pythia-smal'(.|\n)*write: +pythia-small"),
        (lambda opened: opened.items(RUN, 8, "five-shot"), r"task_set: 'five-shot'"),
        (lambda opened: opened.science("no-such"), r"science"),
        (lambda opened: api.study(opened.directory / "data"), r"no study was run there\n +fix: "),
    ],
)
def test_a_mistake_says_what_is_allowed(opened: api.Suite, ask, told: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=told):
        ask(opened)


def test_the_notebook_runs(finished: Workflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Its cells in order in one namespace, as a kernel would; it is kept without outputs."""
    notebook = nbformat.read(ROOT / "docs/tour.ipynb", as_version=4)
    nbformat.validate(notebook)
    monkeypatch.chdir(ROOT / "docs")
    monkeypatch.setenv("CASTALIA_FOLDER", str(finished.folder))
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells) and len(cells) > 5
    namespace: dict[str, object] = {}
    for number, cell in enumerate(cells):
        exec(compile(cell.source, f"docs/tour.ipynb, cell {number}", "exec"), namespace)
    said = capsys.readouterr().out
    assert "nats per byte, 95 %" in said
    loss, logged = next(line for line in said.splitlines() if "logged" in line).split(" nats per token, logged ")
    assert float(loss) == pytest.approx(float(logged), abs=2e-4)
