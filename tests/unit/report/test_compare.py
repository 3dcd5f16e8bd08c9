"""Two checkpoints beside each other, of one study or of two."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from scripts.common.errors import UserError
from scripts.common.files import write_json, write_text
from scripts.report.pages import compare

HELD_OUT = "run,step,component,loss\n{run},0,all,7.5\n{run},8,all,{loss}\n"
EVALS = (
    "run,step,task_set,task,metric,value,stderr\n{run},8,zero,piqa,acc,0.5,0.1\n{run},8,zero,bits,bits_per_byte,1.5,\n"
)


@pytest.fixture
def studies(tmp_path: Path) -> list[Path]:
    folders = []
    for name, loss in (("one", 6.25), ("two", 6.0)):
        folder = tmp_path / name
        write_text(folder / "results/tables/held_out.csv", HELD_OUT.format(run="pythia-1m", loss=loss))
        write_text(folder / "results/tables/evals.csv", EVALS.format(run="pythia-1m"))
        write_json(folder / "results/study.json", {"study": name})
        folders.append(folder)
    return folders


def held(page: str) -> dict[str, list[object]]:
    found = re.search(r'id="data">(.*?)</script>', page)
    assert found is not None
    data: dict[str, list[object]] = json.loads(found[1])
    return data


def test_a_page_holds_every_measure_of_every_checkpoint(studies: list[Path]) -> None:
    data = held(compare.comparison_page("one", compare.read(studies[0])))
    assert data["runs"] == ["pythia-1m"]
    assert data["measures"] == [
        ["held-out loss", "all"],
        ["scores, zero", "piqa: acc"],
        ["scores, zero", "bits: bits_per_byte"],
    ]
    assert [0, 8, 0, 6.25, None] in data["values"] and [0, 8, 1, 0.5, 0.1] in data["values"]


def test_two_studies_stand_in_tables_with_a_column_study(studies: list[Path], tmp_path: Path) -> None:
    files = list(compare.write(tmp_path / "both", compare.both(studies)))
    assert [file.name for file in files] == ["held_out.csv", "evals.csv", "compare.html"]
    with files[0].open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["study"], row["loss"]) for row in rows if row["step"] == "8"] == [("one", "6.25"), ("two", "6.0")]
    assert held(files[-1].read_text())["runs"] == ["one: pythia-1m", "two: pythia-1m"]


def test_studies_of_one_name_are_told_by_their_folders(studies: list[Path]) -> None:
    write_json(studies[1] / "results/study.json", {"study": "one"})
    assert {row["study"] for row in compare.both(studies)["evals"]} == {str(folder) for folder in studies}


def test_a_folder_without_tables_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path}: no results/tables of a study; make them"):
        compare.both([tmp_path, tmp_path])
