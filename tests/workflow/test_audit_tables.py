"""Tables, findings and figures edited: named by the audit, which makes them again of the results."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from scripts.audit.integrity import tabled
from scripts.audit.integrity.found import look
from scripts.study.study import load
from tests.workflow.conftest import Workflow
from tests.workflow.test_audit import audited, edit, failed


def in_csv(name: str, old: str, new: str) -> Callable[[], None]:
    def change() -> None:
        path = Path("results/tables") / f"{name}.csv"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def emptied(name: str) -> Callable[[], None]:
    def change() -> None:
        path = Path("results/tables") / f"{name}.csv"
        path.write_text(path.read_text().splitlines(keepends=True)[0])

    return change


def in_parquet(name: str, column: str) -> Callable[[], None]:
    def change() -> None:
        path = Path("results/tables") / f"{name}.parquet"
        table = pq.read_table(path)
        moved = pc.add(table[column], 1).cast(table[column].type)
        pq.write_table(table.set_column(table.column_names.index(column), column, moved), path)

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (in_csv("evals", "castalia_agreement", "agreement"), "evals.csv: line 2: task is 'agreement', analysis makes"),
        (in_csv("losses", "6.4", "6.3"), "losses.csv: line "),
        (in_csv("export", "\npythia-small", "\npythia-large"), "export.csv: line 2: run is 'pythia-large', analysis"),
        (in_csv("corpora", "standard", "deduped"), "corpora.csv: line "),
        (emptied("runs"), "runs.csv: 0 rows, analysis makes 3"),
        (lambda: Path("results/tables/runs.csv").write_bytes(b"\xff"), "runs.csv: not UTF-8"),
        (in_parquet("evals", "value"), "evals.parquet: line 2: value is "),
        (in_parquet("memorization_pairs", "predictor_step"), "memorization_pairs.parquet: line 2: predictor_step is "),
        (lambda: Path("results/tables/evals.parquet").write_bytes(b"PAR1"), "evals.parquet: can't be read"),
    ],
)  # fmt: skip
def test_tables_edited(suite: Path, change: Callable[[], None], told: str) -> None:
    """Their hashes stand in no manifest, only in the lock."""
    change()
    found = failed()
    assert set(found) == {"tables"} and f"results/tables/{told}" in found["tables"]
    assert audited()["findings"].evidence == ("they rest on tables that did not pass",)


def said(finding: int, key: str, value: Any) -> Callable[[Any], None]:
    return lambda content: content[finding].update({key: value})


@pytest.mark.parametrize("strict", [True, False], ids=["this code made it", "other code made it"])
@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("findings", said(0, "holds", None), False),
        ("findings", said(0, "numbers", {"final_held_out_loss": 1}), False),
        ("findings", said(0, "text", "Larger models are better."), True),
        ("figures/loss", lambda content: content["title"].update(text="Training loss ends at 1"), True),
        ("figures/loss", lambda content: next(iter(content["datasets"].values()))[0].update(mean=1.5), False),
        ("figures/memorization_size", lambda content: content["datasets"].popitem(), False),
    ],
)
def test_findings_and_figures_edited(
    suite: Path, finished: Workflow, monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Any], None],
    words: bool, strict: bool,
) -> None:  # fmt: skip
    """Numbers are those of the tables whoever made them; other code may have other words."""
    monkeypatch.setattr(tabled, "this_code_made", lambda _: strict)
    if name.startswith("figures"):
        Path("results/figures").mkdir()
        shutil.copyfile(finished.folder / f"results/{name}.json", f"results/{name}.json")
    edit(Path(f"results/{name}.json"), change)
    study, folder = load(Path("results/study.json")), look()
    found = tabled.check_findings(study, folder, tabled.check_tables(study, folder))
    assert found.status == ("pass" if words and not strict else "fail")
    assert found.status == "pass" or f"results/{name}.json" in found.evidence[0]


def test_tables_of_another_processor_and_of_no_study_are_no_false_alarm(suite: Path) -> None:
    """The last digits of floats are the processor's."""
    path = Path("results/tables/evals.csv")
    table = pd.read_csv(path)
    table["value"] *= 1 + 1e-12
    table.to_csv(path, index=False)
    assert audited()["tables"].status == "pass"
    shutil.rmtree("results/tables")
    assert "missing: results/tables/" in failed()["findings"]  # they rest on nothing
    Path("results/findings.json").unlink()
    assert {name: audited()[name].status for name in ("tables", "findings")} == dict.fromkeys(
        ("tables", "findings"), "not applicable"
    )


def test_a_device_among_the_results_is_not_read(suite: Path) -> None:
    """Analysis would read it for ever."""
    path = Path("checkpoints/pythia-tiny/held_out.jsonl")
    path.unlink()
    path.symlink_to("/dev/zero")
    check = tabled.check_tables(load(Path("results/study.json")), look())
    assert check.status == "fail" and f"{path}: no regular file" in check.evidence[0]
