"""Published token files of a study: found on disk or on the hub, joined into a corpus, refused when damaged."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.hf_api import RepoFile, RepoFolder

from scripts.common import manifest
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_json, read_yaml, sha256_file, write_json
from scripts.data import join
from scripts.data.megatron import joined
from scripts.data.megatron.indexed import open_tokens, write_tokens
from scripts.data.megatron.shards import NAME
from scripts.data.sources import external
from scripts.data.tools import shard
from scripts.study.manifests import CorpusFacts, ExternalFacts, TextSize
from scripts.study.study import Study, parse

REVISION = "0123456789" * 4
SIZES = [30, 0, 25, 45]
FOLDER = Path("data/external/standard")


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with shards of 100 tokens in elsewhere/, their hash list and the whole file's hash."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    ids = np.random.default_rng(1).integers(2, 2048, sum(SIZES))
    write_tokens(Path("whole/document"), np.split(ids, np.cumsum(SIZES)[:-1]), 2048)
    shard.shard(Path("whole/document"), 60, Path("elsewhere"))
    (Path("elsewhere") / NAME).rename("sums.txt")


def study(**entry: Any) -> Study:
    content = read_yaml(ROOT / "config.yaml")
    asked = {"folder": "elsewhere", "shards": "document-*.bin", "index": "document.idx"} | entry
    chosen = {key: value for key, value in asked.items() if value is not None}
    content["data"]["corpora"] = {"standard": {"external": chosen, "deduplicate": "none"}}
    content["runs"] = [{**content["runs"][0], "corpora": ["standard"]}]
    content["overrides"] = {}
    return parse(content)


def hub_study(**entry: Any) -> Study:
    return study(folder=None, repo="EleutherAI/pile", revision=REVISION, **entry)


def command(module: Any, asked: Study, monkeypatch: pytest.MonkeyPatch, corpus: str = "standard") -> None:
    write_json(Path("study.json"), asked.file.model_dump())
    monkeypatch.setattr("sys.argv", ["command", "--study", "study.json", "--corpus", corpus])
    module.main()


def whole() -> str:
    return sha256_file(Path("whole/document.bin"))


def test_a_folder_of_shards_becomes_a_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = study(hashes="sums.txt", sha256=whole())
    command(external, asked, monkeypatch)
    facts = manifest.verify(FOLDER, ExternalFacts).facts
    assert facts.folder == "elsewhere"
    assert [(shard.name, shard.bytes) for shard in facts.shards] == [
        (f"document-{n:05}-of-00003.bin", size) for n, size in enumerate([60, 60, 60, 20])
    ]
    assert facts.index.sha256 == sha256_file(Path("elsewhere/document.idx"))

    hashed: list[Path] = []

    def noted(path: Path) -> str:
        hashed.append(path)
        return sha256_file(path)

    monkeypatch.setattr(manifest, "sha256_file", noted)
    command(join, asked, monkeypatch)
    assert hashed == [FOLDER / manifest.NAME]  # tokens are not read again for their hash
    content = manifest.verify(Path("data/standard"), CorpusFacts)
    assert content.parents == {f"{FOLDER}/manifest.json": sha256_file(FOLDER / manifest.NAME)}
    assert content.settings == asked.corpus_settings("standard")
    assert content.files["tokens.bin"] == manifest.NamedFile(whole(), 200)
    tokens = open_tokens(Path("data/standard/tokens"))
    assert content.facts == CorpusFacts(
        documents=4,
        tokens=100,
        documents_without_tokens=1,
        components={"standard": TextSize(4, 100)},
        largest_token=int(tokens.flat.max()),
        end_of_document_tokens=0,
        sequence_tokens=None,
    )
    assert tokens.sizes.tolist() == SIZES
    names = {path.name for path in Path("data/standard").iterdir()}
    assert names == {"tokens.bin", "tokens.idx", manifest.NAME, "record.json"}


def test_a_preshuffled_file_and_end_of_document_tokens_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    write_tokens(Path("one/document"), [[0, 5, 6, 7], [8, 9, 10, 0]], 2048)
    asked = study(folder="one", shards="document.bin")
    command(external, asked, monkeypatch)
    command(join, asked, monkeypatch)
    facts = manifest.read(Path("data/standard"), CorpusFacts).facts
    assert (facts.sequence_tokens, facts.end_of_document_tokens, facts.largest_token) == (4, 2, 10)


def joined_is_refused(asked: Study, fact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The join refuses, and an older corpus stays whole."""
    Path("data/standard").mkdir(parents=True, exist_ok=True)
    Path("data/standard/tokens.bin").write_bytes(b"older")
    write_json(Path("data/standard/manifest.json"), "older")
    command(external, asked, monkeypatch)
    with pytest.raises(UserError, match=fact):
        command(join, asked, monkeypatch)
    assert Path("data/standard/tokens.bin").read_bytes() == b"older"
    assert read_json(Path("data/standard/manifest.json")) == "older"


def test_the_whole_must_have_the_study_s_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    joined_is_refused(study(sha256="0" * 64), f"tokens.bin: the 4 files joined have sha256 {whole()}", monkeypatch)


def test_a_damaged_shard_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("elsewhere/document-00002-of-00003.bin")
    path.write_bytes(path.read_bytes()[:-2] + b"\x07\x07")
    fact = r"elsewhere/document-00002-of-00003\.bin: sha256 .*\n  expected: "
    joined_is_refused(study(hashes="sums.txt"), fact, monkeypatch)


def test_a_token_beyond_the_padded_vocabulary_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("elsewhere/document-00001-of-00003.bin")
    path.write_bytes(path.read_bytes()[:20] + np.array([2048], dtype="<u2").tobytes() + path.read_bytes()[22:])
    fact = r"document-00001-of-00003\.bin: token 10 has the id 2048\n  allowed: 0 to 2047"
    joined_is_refused(study(), fact, monkeypatch)


def test_an_empty_file_makes_no_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    write_tokens(Path("empty/document"), [], 2048)
    joined_is_refused(study(folder="empty", shards="document.bin"), "corpus standard would be empty", monkeypatch)


def test_files_found_for_other_settings_are_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    command(external, study(), monkeypatch)
    with pytest.raises(
        UserError, match=r"not made with the study's settings\n  external.sha256: None there, '0+' asked"
    ):
        command(join, study(sha256="0" * 64), monkeypatch)


@pytest.mark.parametrize(
    ("entry", "fact"),
    [
        ({"folder": "nowhere"}, "nowhere: no such folder"),
        (
            {"shards": "doc_*.bin"},
            r"external\.shards: no file of elsewhere matches 'doc_\*\.bin'\n  there is: document-0",
        ),
        ({"index": "other.idx"}, r"external\.index: elsewhere has no file 'other\.idx'"),
        ({"shards": "../*.bin"}, r"external\.shards: '\.\./\*\.bin' is not allowed\n  allowed: a name within"),
        ({"index": "/etc/passwd"}, r"external\.index: '/etc/passwd' is not allowed"),
        ({"shards": "document-*[!3].bin"}, "missing"),
    ],
)
def test_files_that_are_not_there_are_named(entry: dict[str, str], fact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if fact == "missing":
        Path("elsewhere/document-00001-of-00003.bin").unlink()
        entry, fact = {}, r"document-00001-of-00003\.bin: missing; the numbers go from 0 to 3, and 3 of 4"
    with pytest.raises(UserError, match=fact):
        command(external, study(**entry), monkeypatch)
    assert not FOLDER.exists()


@pytest.mark.parametrize("module", [external, join])
def test_an_unknown_corpus_is_refused(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UserError, match=r"corpus: 'standart' is not allowed\n  allowed: standard.*\n  write:   standard"
    ):
        command(module, study(), monkeypatch, "standart")


# --- the hub ------------------------------------------------------------------------------------------


class Hub:
    """A repository of the hub in a folder: what its two functions that are used would give."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.asked = Path("repository"), list[dict[str, Any]]()
        shutil.copytree("elsewhere", self.folder / "set")
        (self.folder / "README.md").write_text("words")
        monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_tree", lambda _, **asked: self.listed(**asked))
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.download)

    def listed(self, repo_id: str, repo_type: str, revision: str, recursive: bool) -> Any:
        assert (repo_id, repo_type, revision, recursive) == ("EleutherAI/pile", "dataset", REVISION, True)
        yield RepoFolder(path="set", oid="0" * 40)
        for path in (path for path in self.folder.rglob("*") if path.is_file()):
            size = path.stat().st_size
            lfs = {"size": size, "oid": sha256_file(path), "pointerSize": 134} if path.suffix == ".bin" else None
            yield RepoFile(path=path.relative_to(self.folder).as_posix(), size=size, oid="0" * 40, lfs=lfs)

    def download(self, allow_patterns: list[str], local_dir: Path, **asked: Any) -> str:
        self.asked.append({"allow_patterns": allow_patterns, **asked})
        for name in allow_patterns:
            (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.folder / name, local_dir / name)
        return str(local_dir)


IN_SET = {"shards": "set/document-*.bin", "index": "set/document.idx"}


def test_the_hub_s_files_and_their_hashes_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    hub, asked = Hub(monkeypatch), hub_study(**IN_SET, sha256=whole())
    command(external, asked, monkeypatch)
    assert hub.asked == [
        {
            "allow_patterns": [*(f"set/document-{n:05}-of-00003.bin" for n in range(4)), "set/document.idx"],
            "repo_id": "EleutherAI/pile",
            "repo_type": "dataset",
            "revision": REVISION,
        }
    ]
    facts = manifest.read(FOLDER, ExternalFacts).facts
    hashes = {shard.name: shard.sha256 for shard in facts.shards}
    assert hashes == {name: sha256_file(hub.folder / name) for name in hub.asked[0]["allow_patterns"][:4]}
    assert facts.folder == str(FOLDER) and facts.index.sha256 is None
    command(join, asked, monkeypatch)
    assert sha256_file(Path("data/standard/tokens.bin")) == whole()


def test_a_shard_that_differs_from_the_hub_s_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Hub(monkeypatch)
    asked = hub_study(**IN_SET)
    command(external, asked, monkeypatch)
    path = FOLDER / "set/document-00001-of-00003.bin"
    path.write_bytes(b"\x02" + path.read_bytes()[1:])
    with pytest.raises(UserError, match=r"document-00001-of-00003\.bin: sha256"):
        command(join, asked, monkeypatch)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"document-00001-of-00003\.bin: 58 bytes, expected 60"):
        command(join, asked, monkeypatch)


def test_gaps_and_wrong_names_on_the_hub_are_seen_before_the_download(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch)
    with pytest.raises(UserError, match=r"no file of the hub's EleutherAI/pile matches 'document-\*\.bin'"):
        command(external, hub_study(), monkeypatch)  # * does not reach into set/
    usage = type("Usage", (), {"free": 10})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(joined.shutil, "disk_usage", lambda _: usage)
        with pytest.raises(UserError, match=rf"{FOLDER}: \d+ bytes are to be downloaded, the disk has 10"):
            command(external, hub_study(**IN_SET), monkeypatch)
    (hub.folder / "set/document-00000-of-00003.bin").unlink()
    with pytest.raises(UserError, match=r"document-00000-of-00003\.bin: missing"):
        command(external, hub_study(**IN_SET), monkeypatch)
    assert hub.asked == []


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OfflineModeIsEnabled("Cannot reach the hub")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_tree", fails)


def test_without_the_hub_it_says_where_to_put_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    with pytest.raises(UserError) as caught:
        command(external, hub_study(), monkeypatch)
    text = str(caught.value)
    assert f"EleutherAI/pile at {REVISION} could not be downloaded\n  because: Cannot reach the hub" in text
    assert "put document-*.bin and document.idx of it into data/external/standard/ and give `hashes`" in text


def test_files_put_there_by_hand_are_taken_if_the_study_knows_their_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    shutil.copytree("elsewhere", FOLDER)
    with pytest.raises(UserError, match="could not be downloaded"):
        command(external, hub_study(), monkeypatch)
    asked = hub_study(hashes="sums.txt")
    command(external, asked, monkeypatch)
    command(join, asked, monkeypatch)
    assert sha256_file(Path("data/standard/tokens.bin")) == whole()
    (FOLDER / "document-00001-of-00003.bin").unlink()
    with pytest.raises(UserError, match=r"could not be downloaded\n.*\n  and: document-00001-of-00003\.bin: missing"):
        command(external, asked, monkeypatch)
