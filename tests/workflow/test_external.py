"""Published tokens as corpora: shards with hashes, and a preshuffled file, must train the very same models."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from scripts.common.files import read_json, read_yaml
from tests import forks
from tests.workflow.conftest import ROOT, SMOKE, Workflow

SEED = 1234


def command(folder: Path, name: str, *arguments: str) -> None:
    subprocess.run([forks.python(), "-m", "scripts.data", name, *arguments], cwd=folder, env=environment(), check=True)


def environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def published(finished: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A study of the smoke study's text whose corpora are that study's tokens, in shards and in order."""
    folder = tmp_path_factory.mktemp("external")
    subprocess.run(["cp", "-a", str(finished.folder / "data"), str(folder / "data")], check=True)
    source = finished.folder / "data/standard"
    command(folder, "shard", "--tokens", str(source / "tokens"), "--shard-bytes", "20000", "--out", "shards")
    study = ["--study", "results/study.json", "--corpus", "standard", "--seed", str(SEED)]
    command(finished.folder, "export", *study, "--steps", "8", "--out", str(folder / "sequences"))
    content = read_yaml(SMOKE)
    shards = {
        "folder": "shards",
        "shards": "tokens-*.bin",
        "index": "tokens.idx",
        "hashes": "shards/sha256sum.txt",
        "sha256": read_json(source / "manifest.json")["files"]["tokens.bin"]["sha256"],
    }
    rows = {
        "folder": "sequences",
        "shards": "document.bin",
        "index": "document.idx",
        "hashes": "sequences/sha256sum.txt",
    }
    content["data"]["corpora"] = {
        "shards": {"external": shards, "deduplicate": "none"},
        "sequences": {"external": rows, "deduplicate": "none"},
    }
    content["runs"] = [{"sizes": ["tiny"], "corpora": ["shards", "sequences"], "seeds": [SEED], "vary": "both"}]
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(content))
    return Workflow(folder, file)


def test_published_tokens_train_the_same_model_as_the_text_they_were_made_of(
    published: Workflow, finished: Workflow
) -> None:
    published.succeed("train")
    wanted = (finished.folder / "checkpoints/pythia-tiny/metrics.jsonl").read_bytes()
    for name in ("shards", "sequences"):
        assert (published.folder / f"checkpoints/pythia-tiny-{name}/metrics.jsonl").read_bytes() == wanted
    weights = "global_step8/layer_02-model_00-model_states.pt"
    layers = {name: read_json(published.folder / f"checkpoints/pythia-tiny-{name}/global_step8/manifest.json")
              for name in ("shards", "sequences")}  # fmt: skip
    hashes = {layer["files"][weights.partition("/")[2]]["sha256"] for layer in layers.values()}
    assert len(hashes) == 1

    facts = {
        name: read_json(published.folder / f"data/{name}/manifest.json")["facts"] for name in ("shards", "sequences")
    }
    assert facts["sequences"]["sequence_tokens"] == 65
    assert facts["shards"]["sequence_tokens"] is None
    assert facts["shards"]["end_of_document_tokens"] == facts["sequences"]["end_of_document_tokens"] == 0
    orders = [read_json(published.folder / f"data/{name}/order-{SEED}/manifest.json")["facts"] for name in facts]
    assert [order["layout"] for order in orders] == ["neox", "preshuffled"]
    assert orders[0]["sequence_count"] > orders[1]["sequence_count"] == 32  # whole epochs, and what was exported


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (("folder: shards", "folder: shard"), "data.corpora.shards.external.folder: shard does not exist"),
        (("tokens-*.bin", "token-*.bin"), "holds no file that fits 'token-*.bin'"),
        (("hashes: shards/sha256sum.txt", "hashes: none.txt"), "external.hashes: none.txt does not exist"),
    ],
)
def test_missing_published_files_are_refused_before_the_first_job(
    change: tuple[str, str], fact: str, published: Workflow, tmp_path: Path
) -> None:
    text = published.study_file.read_text()
    assert change[0] in text
    study = tmp_path / "study.yaml"
    study.write_text(text.replace(*change))
    done = Workflow(published.folder, study).run("data")
    assert done.returncode != 0
    assert "refused before the first job" in done.stderr
    assert fact in done.stderr


def test_a_changed_shard_ends_the_join_and_leaves_the_corpus(published: Workflow) -> None:
    published.succeed("data")
    folder = published.folder
    shard = sorted((folder / "shards").glob("tokens-*.bin"))[1]
    kept = shard.read_bytes()
    corpus = (folder / "data/shards/tokens.bin").read_bytes()
    try:
        shard.write_bytes(bytes([kept[0] ^ 1]) + kept[1:])
        done = published.command_line("scripts.data", "join", "--corpus", "shards")
        assert done.returncode == 2
        assert f"shards/{shard.name}" in done.stderr
        assert "sha256" in done.stderr
        assert (folder / "data/shards/tokens.bin").read_bytes() == corpus
    finally:
        shard.write_bytes(kept)


def test_a_shard_cut_short_is_refused_and_once_mended_joined(published: Workflow) -> None:
    published.succeed("data")
    shard = sorted((published.folder / "shards").glob("tokens-*.bin"))[2]
    kept = shard.read_bytes()
    manifest = (published.folder / "data/shards/manifest.json").read_bytes()
    try:
        shard.write_bytes(kept[:1000])
        done = published.run("data")
        assert done.returncode != 0
        log = (published.folder / "logs/external/shards.log").read_text()
        assert f"shards/{shard.name}: 1000 bytes" in log
    finally:
        shard.write_bytes(kept)
    published.succeed("data")
    assert (published.folder / "data/shards/manifest.json").read_bytes() == manifest
