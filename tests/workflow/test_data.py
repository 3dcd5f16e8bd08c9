"""The data stages as commands, on text laid out as the Pile is: jobs, kills, resumption, refusals."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
import zstandard

from scripts.common.files import read_json, read_yaml
from scripts.data.megatron.indexed import open_tokens
from scripts.study.study import load
from tests import forks
from tests.workflow.conftest import Workflow

ROOT = Path(__file__).resolve().parents[2]
FILES = 5
WORDS = [f"w{n}" for n in range(400)]


def sentence(seed: int, words: int = 120) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def write_pile(folder: Path, documents: int = 60) -> None:
    """Files of JSON lines under Zstandard; every sixth document is a near-copy of one in another file."""
    folder.mkdir(parents=True)
    for file in range(FILES):
        lines = []
        for n in range(documents):
            text = sentence(n) + f" and so on {file}" if n % 6 == 0 else sentence(1000 * (file + 1) + n)
            lines.append(json.dumps({"text": text, "meta": {"pile_set_name": ["Books", "Web"][n % 2]}}))
        (folder / f"{file:02}.jsonl.zst").write_bytes(zstandard.compress("\n".join(lines).encode()))
    held_out = [json.dumps({"text": sentence(6) + " and no more", "meta": {"pile_set_name": "Web-val"}})]
    held_out += [json.dumps({"text": sentence(9000 + n), "meta": {"pile_set_name": "Web-val"}}) for n in range(20)]
    (folder / "val.jsonl.gz").write_bytes(gzip.compress("\n".join(held_out).encode(), mtime=0))


def study_file(folder: Path, parts: int) -> Path:
    """The smoke study with these files as its text."""
    content: dict[str, Any] = read_yaml(ROOT / "studies/smoke.yaml")
    content["data"]["components"] = {
        "pile": {"files": ["raw/[0-9]*.jsonl.zst"], "reader": "jsonl", "component_field": "meta.pile_set_name"},
        "pile-val": {
            "files": ["raw/val.jsonl.gz"],
            "reader": "jsonl",
            "component_field": "meta.pile_set_name",
            "held_out": True,
        },
    }
    content["data"]["corpora"] = {
        "standard": {"components": ["pile"], "deduplicate": "none"},
        "deduped": {"components": ["pile"], "deduplicate": "near"},
    }
    content["data"]["held_out_fraction"] = 0.02
    content["runtime"]["data_parts"] = parts
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


Step = tuple[str, ...]


def steps(study: Path) -> list[Step]:
    """Every command of the data stages, in an order that works."""
    loaded = load(study)
    parts = range(loaded.part_count)
    todo: list[Step] = [("fetch", "--component", name) for name in loaded.file.data.components]
    todo += [("documents", "--component", block.source, "--part", str(block.part)) for block in loaded.blocks()]
    todo += [("signatures", "--part", str(part)) for part in parts]
    todo += [("pairs", "--group", str(part)) for part in parts]
    todo += [("clusters",), ("tokenizer",)]
    for corpus in ("standard", "deduped", "held-out"):
        todo += [("tokenize", "--corpus", corpus, "--part", str(part)) for part in parts]
        todo.append(("join", "--corpus", corpus))
    return [*todo, ("order", "--corpus", "standard", "--seed", "1234")]


def command(step: Step, study: Path, python: str | None = None) -> list[str]:
    return [python or forks.python(), "-m", "scripts.data", step[0], "--study", str(study), *step[1:]]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(step: Step, study: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(step, study), cwd=study.parent, env=environment(), capture_output=True, text=True, check=False
    )


def prepare(folder: Path, parts: int, each: Callable[[Step, Path], None]) -> Path:
    write_pile(folder / "raw")
    study = study_file(folder, parts)
    for step in steps(study):
        each(step, study)
    return folder


def plainly(step: Step, study: Path) -> None:
    done = run(step, study)
    assert done.returncode == 0, done.stderr


LASTING = ("data/clusters/**/*", "data/tokenizer/*", "data/standard/*", "data/deduped/*", "data/held-out/*",
           "data/standard/order-1234/*")  # fmt: skip


def sums(folder: Path, leave_out: tuple[str, ...] = ("record.json",)) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in LASTING
        for path in sorted(folder.glob(pattern))
        if path.is_file() and path.name not in leave_out
    }


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("two"), 2, plainly)


def test_the_number_of_jobs_changes_no_byte(prepared: Path, tmp_path: Path) -> None:
    """Manifests name the blocks they were made from, so only they may differ; one job or two."""
    manifests = ("record.json", "manifest.json")
    alone = sums(prepare(tmp_path / "one", 1, plainly), manifests)
    two = sums(prepared, manifests)
    corpora = [name for name in alone if "clusters" not in name]
    assert len(corpora) >= 16
    assert {name: alone[name] for name in corpora} == {name: two[name] for name in corpora}


def test_a_kill_at_any_moment_of_any_job_changes_no_byte(prepared: Path, tmp_path: Path) -> None:
    """Each command is killed with SIGKILL at a random moment of its life, then run again."""
    chance = random.Random(3)
    killed = []

    def killing(step: Step, study: Path) -> None:
        process = subprocess.Popen(
            command(step, study, sys.executable),
            cwd=study.parent,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0.1, 1.2))
        process.send_signal(signal.SIGKILL)
        killed.append(process.wait() == -signal.SIGKILL)
        plainly(step, study)

    folder = prepare(tmp_path / "killed", 2, killing)
    assert sum(killed) > len(killed) / 3
    assert sums(folder) == sums(prepared)
    assert not list(folder.rglob(".*.work"))  # nothing left lying about
    assert not list(folder.rglob(".*.tmp"))


def test_tokenizing_goes_on_where_it_was_killed(prepared: Path, tmp_path: Path) -> None:
    """Killed once some documents are committed, the next try begins after them and ends with the same bytes."""
    folder = tmp_path / "again"
    subprocess.run(["cp", "-a", str(prepared), str(folder)], check=True)
    study = folder / "study.yaml"
    step = ("tokenize", "--corpus", "standard", "--part", "1")
    piece = folder / "data/standard/pieces/part-1/pile"
    wanted = {path.name: path.read_bytes() for path in piece.iterdir()}
    subprocess.run(["rm", "-r", str(piece.parent)], check=True)
    slow = (
        "import time; from scripts.data import tokenize as t\n"
        "t.BATCH_CHARACTERS, t.COMMIT_SECONDS = 3000, 0.0\n"
        "encode = t.encode\n"
        "t.encode = lambda *a: (time.sleep(0.05), encode(*a))[1]\n"
        "t.main()"
    )
    process = subprocess.Popen([sys.executable, "-c", slow, *command(step, study)[4:]], cwd=folder, env=environment())
    progress = folder / "data/standard/pieces/.part-1.work/draft/pile/progress.json"
    while not progress.exists() or read_json(progress)["progress"]["documents"] < 20:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    committed = read_json(progress)["progress"]["documents"]
    done = run(step, study)
    assert done.returncode == 0, done.stderr
    assert committed < 120
    assert f"tokens of pile 1: {committed}/" not in done.stderr  # no line for what is done already
    assert {path.name: path.read_bytes() for path in piece.iterdir()} == wanted


def test_unfinished_work_on_something_else_is_dropped(prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    subprocess.run(["cp", "-a", str(prepared), str(folder)], check=True)
    study = folder / "study.yaml"
    draft = folder / "data/standard/pieces/.part-0.work/draft"
    draft.parent.mkdir()
    (folder / "data/standard/pieces/part-0").rename(draft)
    study.write_text(study.read_text().replace("append_eod: false", "append_eod: true"))
    done = run(("tokenize", "--corpus", "standard", "--part", "0"), study)
    assert done.returncode == 0, done.stderr
    assert "unfinished work on something else is dropped: settings.append_eod: False there, True asked" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "step"),
    [
        ("append_eod: false", "append_eod: true", ("join", "--corpus", "standard")),
        ("ngram: 5", "ngram: 4", ("pairs", "--group", "0")),
        ("ngram: 5", "ngram: 4", ("clusters",)),
        ("held_out_fraction: 0.02", "held_out_fraction: 0.03", ("tokenize", "--corpus", "standard", "--part", "0")),
        ("data_parts: 2", "data_parts: 3", ("signatures", "--part", "0")),
    ],
)
def test_a_stage_by_hand_refuses_what_another_study_made(
    old: str, new: str, step: Step, prepared: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    subprocess.run(["cp", "-a", str(prepared), str(folder)], check=True)
    study = folder / "study.yaml"
    assert old in study.read_text()
    study.write_text(study.read_text().replace(old, new))
    before = sums(folder)
    done = run(step, study)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "made with other settings" in done.stderr or "not made with the study's settings" in done.stderr
    assert sums(folder) == before


def test_another_number_of_parts_makes_the_same_corpus(prepared: Path, tmp_path: Path) -> None:
    """By Snakemake, on what another number of parts left: nothing may be read twice or not at all."""
    folder = tmp_path / "fewer"
    subprocess.run(["cp", "-a", str(prepared), str(folder)], check=True)
    wanted = {name: value for name, value in sums(folder).items() if name.endswith(("tokens.bin", "documents.parquet"))}
    for parts in (1, 3):
        study = study_file(folder, parts)
        Workflow(folder, study).succeed("data")
        assert {name: value for name, value in sums(folder).items() if name in wanted} == wanted


def test_what_the_corpora_hold(prepared: Path) -> None:
    tables = {name: pq.read_table(prepared / "data" / name / "documents.parquet").to_pandas()
              for name in ("standard", "deduped", "held-out")}  # fmt: skip
    standard, deduped, held_out = tables.values()
    assert set(standard["component"]) == {"Books", "Web"}
    assert set(held_out["component"]) == {"Books", "Web", "Web-val"}
    assert deduped["cluster"].is_unique
    assert not set(standard["cluster"]) & set(held_out["cluster"])  # no near-duplicate of held-out text in a corpus
    assert set(deduped["id"]) < set(standard["id"])
    copies = standard[standard["cluster_size"] > 1]
    assert (copies.groupby("cluster").size() == FILES).all()
    near_val = held_out[held_out["cluster_size"] == FILES + 1]
    assert len(near_val) == 1  # the copies of what stands in the validation file went with it
    for name, table in tables.items():
        tokens = open_tokens(prepared / "data" / name / "tokens")
        assert tokens.sizes.tolist() == table["tokens"].tolist()
        assert tokens.begin_of(range(len(tokens))).tolist() == table["offset"].tolist()
    examples = read_json(prepared / "data/clusters/examples.json")
    assert len(examples) == 9  # a pair a cluster; the one near the validation text is held out
    assert all(pair["similarity"] > 0.9 and pair["kept"]["text"] != pair["removed"]["text"] for pair in examples)


@pytest.mark.parametrize(
    ("damage", "step", "fact"),
    [
        (
            lambda f: (f / "raw/02.jsonl.zst").write_bytes((f / "raw/02.jsonl.zst").read_bytes()[:-9]),
            ("documents", "--component", "pile", "--part", "1"),
            r"raw/02.jsonl.zst: damaged compression",
        ),
        (
            lambda f: (f / "raw/00.jsonl.zst").write_bytes(zstandard.compress(b'{"text": "a"}')),
            ("documents", "--component", "pile", "--part", "0"),
            "raw/00.jsonl.zst:1: expected a JSON object with a string field 'meta.pile_set_name'; found text",
        ),
        (
            lambda f: (f / "data/documents/pile/part-1/documents.jsonl.zst").write_bytes(b""),
            ("tokenize", "--corpus", "standard", "--part", "1"),
            "data/documents/pile/part-1/documents.jsonl.zst",
        ),
        (
            lambda f: (f / "data/pairs/group-0/00000_00.dups").write_bytes(b"x" * 16),
            ("clusters",),
            "data/pairs/group-0/00000_00.dups: ",
        ),
        (lambda f: None, ("tokenize", "--corpus", "standart", "--part", "0"), "corpus: 'standart' is not allowed"),
        (lambda f: None, ("tokenize", "--corpus", "standard", "--part", "2"), "--part: there are parts 0 to 1"),
    ],
)
def test_damage_is_refused_by_name(
    damage: Callable[[Path], object], step: Step, fact: str, prepared: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    subprocess.run(["cp", "-a", str(prepared), str(folder)], check=True)
    damage(folder)
    if step[0] == "documents":  # else the changed size alone is refused
        plainly(("fetch", "--component", "pile"), folder / "study.yaml")
    before = sums(folder)
    done = run(step, folder / "study.yaml")
    assert done.returncode == 2, done.stdout + done.stderr
    assert fact in done.stderr
    assert "Traceback" not in done.stderr
    assert sums(folder) == before


def test_two_components_with_one_name_are_refused(prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "twice"
    subprocess.run(["cp", "-a", str(prepared), str(folder)], check=True)
    line = json.dumps({"text": sentence(1), "meta": {"pile_set_name": "Web"}})
    (folder / "raw/val.jsonl.gz").write_bytes(gzip.compress(line.encode()))
    plainly(("fetch", "--component", "pile-val"), folder / "study.yaml")
    for part in ("0", "1"):
        plainly(("documents", "--component", "pile-val", "--part", part), folder / "study.yaml")
    for part in ("0", "1"):
        plainly(("signatures", "--part", part), folder / "study.yaml")
    for group in ("0", "1"):
        plainly(("pairs", "--group", group), folder / "study.yaml")
    done = run(("clusters",), folder / "study.yaml")
    assert done.returncode == 2
    assert "component 'Web' comes from both data.components.pile and data.components.pile-val" in done.stderr
