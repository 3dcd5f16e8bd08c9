"""Publication: what is refused, the cache as huggingface_hub reads it, the folder, and the hub by a local stand-in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants, scan_cache_dir

from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.common.files import read_json, sha256_file
from scripts.convert.from_neox import Native
from scripts.convert.publish import publish, revisions
from scripts.convert.publish.hub import to_hub
from scripts.convert.publish.local import named, to_cache, to_folder
from scripts.convert.publish.revisions import File, Revision, duplicates, place
from scripts.study.manifests import CheckpointFacts, ModelFacts
from tests.fakes import without_facts
from tests.unit import external_models
from tests.unit.external_models import RUN, STEPS
from tests.unit.hub_stand_in import Hub

REPO = f"castalia/{RUN}"
CARD = Path("results/cards") / RUN


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    here = Path.cwd()
    os.chdir(folder)
    try:
        external_models.make(folder)
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def workplace(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    return tmp_path / "study"


def wanted() -> dict[str, Revision]:
    return named(revisions.revisions(RUN, STEPS, CARD), STEPS[-1])


def refused() -> str:
    with pytest.raises(UserError) as error:
        wanted()
    return str(error.value)


def model(step: int) -> Path:
    return Path(f"models/{RUN}/step{step}")


# --- what is refused ---------------------------------------------------------------------------


def test_a_sound_run_is_published_with_every_file_of_every_step(workplace: Path) -> None:
    found = wanted()
    assert list(found) == ["step0", "step1", "step2", "step4", "main"]
    assert found["main"] is found["step4"]
    names = set(found["step2"].files)
    assert {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
            "README.md", "figures/loss.svg", "manifest.json"} <= names  # fmt: skip
    assert len({revision.commit for revision in found.values()}) == 4


def test_two_whole_models_swapped_are_refused_with_both_steps_named(workplace: Path) -> None:
    model(2).rename("aside")
    model(4).rename(model(2))
    Path("aside").rename(model(4))
    told = refused()
    assert f"models/{RUN}/step2: holds step 4 of {RUN}, not step 2" in told
    assert f"models/{RUN}/step4: holds step 2 of {RUN}, not step 4" in told


def test_swapped_weights_are_refused_with_the_step_they_are_of(workplace: Path) -> None:
    shutil.copy(model(4) / "model.safetensors", model(2) / "model.safetensors")
    assert "step2/model.safetensors: is not the file of step 2; it is that of step 4" in refused()


def test_swapped_weights_under_forged_manifests_are_found_by_the_native_checkpoint(workplace: Path) -> None:
    kept = {step: (model(step) / "model.safetensors").read_bytes() for step in (2, 4)}
    for step, other in ((2, 4), (4, 2)):
        (model(step) / "model.safetensors").write_bytes(kept[other])
        parent = Path(f"checkpoints/{RUN}/global_step{step}")
        external_models.describe(model(step), ModelFacts(), step, [parent])
    told = refused()
    assert f"checkpoints/{RUN}/global_step2; they are those of step 4" in told
    assert f"checkpoints/{RUN}/global_step4; they are those of step 2" in told


def test_a_duplicated_checkpoint_is_refused_with_both_steps_named(workplace: Path) -> None:
    """As published pythia-2.8b: a step holds the weights of the last, native checkpoint and manifests and all."""
    for path in Path(f"checkpoints/{RUN}/global_step4").glob("layer_*"):
        shutil.copy(path, f"checkpoints/{RUN}/global_step2/{path.name}")
    external_models.describe(Path(f"checkpoints/{RUN}/global_step2"), without_facts(CheckpointFacts), 2)
    shutil.rmtree(model(2))
    external_models.make_model(workplace, 2, Native(Path(f"checkpoints/{RUN}/global_step2"), []))
    assert refused() == f"{RUN} is not published\n  {RUN}: step 2 and step 4 hold the same weights"


def test_equal_neighbours_need_their_manifests_reason(workplace: Path) -> None:
    external_models.describe(model(1), ModelFacts(), 1, [Path(f"checkpoints/{RUN}/global_step1")])
    assert f"{RUN}: step 0 and step 1 hold the same weights" in refused()


@pytest.mark.parametrize(
    ("weights", "allowed", "expected"),
    [
        ({0: "a", 1: "a", 2: "b"}, {1: "rate 0"}, []),
        ({0: "a", 1: "a", 2: "a"}, {1: "rate 0", 2: "none applied"}, []),
        ({0: "a", 1: "a", 2: "a"}, {1: "rate 0"}, ["r: step 0 and step 2 hold the same weights",
                                                   "r: step 1 and step 2 hold the same weights"]),
        ({0: "a", 1: "b", 2: "a"}, {1: "rate 0", 2: "rate 0"}, []),
        ({0: "a", 2: "a"}, {}, ["r: step 0 and step 2 hold the same weights"]),
    ],
)  # fmt: skip
def test_duplicates(weights: dict[int, str], allowed: dict[int, str], expected: list[str]) -> None:
    assert duplicates(weights, allowed, "r") == expected


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_damaged_or_missing_file_is_refused(workplace: Path, name: str) -> None:
    (model(2) / name).write_bytes(b"x" + (model(2) / name).read_bytes()[1:])
    (model(4) / name).unlink()
    told = refused()
    assert f"step2/{name}: is not the file of step 2; it was changed or damaged" in told
    assert f"step4/{name}: the file is missing" in told


def test_a_run_without_a_card_is_refused(workplace: Path) -> None:
    (CARD / "README.md").unlink()
    assert "no such model card\n  write:   snakemake --profile profiles/local cards" in refused()


@pytest.mark.parametrize("owner", ["../evil", "a/b", "", "a..b", ".", "-x"])
def test_an_owner_that_leads_elsewhere_is_refused(owner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["publish", "--to", "cache", "--out", "x", f"--owner={owner}"])
    with pytest.raises(UserError, match="--owner: "):
        publish.main()


# --- cache and folder --------------------------------------------------------------------------

QUICKSTART = """
import sys
from transformers import GPTNeoXForCausalLM, AutoTokenizer

model = GPTNeoXForCausalLM.from_pretrained(
  "castalia/pythia-tiny",
  revision="step2",
  cache_dir="./cache/pythia-tiny/step2",
)

tokenizer = AutoTokenizer.from_pretrained(
  "castalia/pythia-tiny",
  revision="step2",
  cache_dir="./cache/pythia-tiny/step2",
)

inputs = tokenizer("Hello, I am", return_tensors="pt")
tokens = model.generate(**inputs)
print(tokenizer.decode(tokens[0]))
print(float(model.get_input_embeddings().weight.double().sum()))
"""


def test_the_quickstart_runs_from_the_cache_offline(workplace: Path) -> None:
    found = wanted()
    to_cache(Path("cache/pythia-tiny/step2"), REPO, found, False)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(workplace / "home")}
    done = subprocess.run(
        [sys.executable, "-c", QUICKSTART], cwd=workplace, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    text, total = done.stdout.rsplit("\n", 2)[:2]
    assert text.startswith("Hello, I am")
    layers = external_models.layers(2)
    assert float(total) == float(layers[0]["word_embeddings.weight"].double().sum())


def test_the_cache_is_laid_out_as_the_hub_library_does(workplace: Path) -> None:
    home = to_cache(Path("cache"), REPO, wanted(), False)
    scanned = scan_cache_dir("cache")
    assert not scanned.warnings
    (repo,) = scanned.repos
    assert (repo.repo_id, repo.repo_type) == (REPO, "model")
    assert set(repo.refs) == {"step0", "step1", "step2", "step4", "main"}
    assert repo.refs["main"].commit_hash == repo.refs["step4"].commit_hash
    weights = home / "snapshots" / repo.refs["step2"].commit_hash / "model.safetensors"
    assert weights.is_symlink()
    assert weights.resolve().samefile(model(2) / "model.safetensors")  # a hard link: no second copy of the bytes
    assert weights.resolve().name == sha256_file(weights)


def test_a_publication_cut_off_goes_on_and_a_damaged_blob_is_mended(workplace: Path) -> None:
    home = to_cache(Path("cache"), REPO, wanted(), False)
    blob = (home / "snapshots" / (home / "refs/step2").read_text() / "config.json").resolve()
    before = sorted((path.name, path.stat().st_ino) for path in (home / "blobs").iterdir() if path != blob)
    blob.unlink()
    blob.write_text("{}")
    (home / "refs/step4").unlink()
    to_cache(Path("cache"), REPO, wanted(), False)
    assert blob.read_bytes() == (model(2) / "config.json").read_bytes()
    assert sorted((path.name, path.stat().st_ino) for path in (home / "blobs").iterdir() if path != blob) == before
    assert (home / "refs/step4").read_text() == (home / "refs/main").read_text()


def change_step_4(workplace: Path) -> None:
    for folder in (model(4), Path(f"checkpoints/{RUN}/global_step4")):
        shutil.rmtree(folder)
    native = Path(f"checkpoints/{RUN}/global_step4")
    native.mkdir()
    external_models.neox_write.write(native, external_models.layers(77), external_models.SHAPE, step=4)
    external_models.describe(native, without_facts(CheckpointFacts), 4)
    external_models.make_model(workplace, 4, Native(native, []))


@pytest.mark.parametrize("publication", [to_cache, to_folder])
def test_another_content_under_a_published_revision_is_refused_unless_told(workplace: Path, publication) -> None:
    home = publication(Path("out"), REPO, wanted(), False)
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    change_step_4(workplace)
    with pytest.raises(UserError, match="holds other content under step4, main; nothing was changed"):
        publication(Path("out"), REPO, wanted(), False)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    publication(Path("out"), REPO, wanted(), True)
    path = home / "main" if publication is to_folder else home / "snapshots" / (home / "refs/main").read_text()
    assert (path / "model.safetensors").read_bytes() == (model(4) / "model.safetensors").read_bytes()


def test_a_folder_holds_every_revision_and_their_hashes(workplace: Path) -> None:
    home = to_folder(Path("out"), REPO, wanted(), False)
    listing = read_json(home / "revisions.json")
    assert set(listing) == {"step0", "step1", "step2", "step4", "main"}
    for name, revision in listing.items():
        for path, held in revision["files"].items():
            assert sha256_file(home / name / path) == held["sha256"]
        assert (home / name / manifest.NAME).exists()
    assert (home / "step2/model.safetensors").samefile(model(2) / "model.safetensors")


def test_without_symbolic_links_the_snapshot_holds_the_files(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise OSError("no symbolic links here")

    monkeypatch.setattr(Path, "symlink_to", none)
    home = to_cache(Path("cache"), REPO, wanted(), False)
    weights = home / "snapshots" / (home / "refs/step2").read_text() / "model.safetensors"
    assert not weights.is_symlink()
    assert weights.samefile(model(2) / "model.safetensors")


def test_a_copy_to_another_disk_is_hashed(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def none(source: Path, target: Path) -> None:
        if "models" in Path(source).parts or "cards" in Path(source).parts:
            raise OSError("another disk")
        link(source, target)

    found = wanted()
    monkeypatch.setattr(os, "link", none)
    to_folder(Path("out"), REPO, found, False)
    assert (Path("out") / REPO / "step2/model.safetensors").read_bytes() == (
        model(2) / "model.safetensors"
    ).read_bytes()
    monkeypatch.setattr(revisions.shutil, "copyfile", lambda _, target: Path(target).write_bytes(b"worn"))
    with pytest.raises(UserError, match="came out different; is the disk sound"):
        to_folder(Path("elsewhere"), REPO, found, False)


# --- the hub -----------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    stand_in = Hub()
    yield stand_in
    stand_in.close()


def send(hub: Hub, replace: bool = False) -> str:
    return to_hub(HfApi(endpoint=hub.url, token="none"), REPO, wanted(), replace, private=False)


def test_every_step_becomes_a_branch_of_the_hub_and_main_is_the_last(workplace: Path, hub: Hub) -> None:
    assert send(hub) == f"{hub.url}/{REPO}"
    assert set(hub.branches) == {"main", "step0", "step1", "step2", "step4"}
    for step in STEPS:
        held = hub.branches[f"step{step}"][-1]
        assert held["model.safetensors"] == (model(step) / "model.safetensors").read_bytes()
        assert held["README.md"] == (CARD / "README.md").read_bytes()
        assert len(hub.branches[f"step{step}"]) == 2  # the repository's first commit, and one of ours
    assert hub.branches["main"][-1] == hub.branches["step4"][-1]
    assert hub.uploads == 3  # step 1 has the weights of step 0, and main those of step 4


def test_an_upload_cut_off_goes_on_where_it_was(workplace: Path, hub: Hub) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    hub.fail_after = 2
    with pytest.raises(HfHubHTTPError):
        send(hub)
    assert hub.commits == 2
    assert "step2" in hub.branches
    assert set(hub.branches["step2"][-1]) == {".gitattributes"}  # the branch was made, and nothing committed
    hub.fail_after = None
    send(hub)
    assert hub.commits == 5
    assert hub.branches["main"][-1]["model.safetensors"] == (model(4) / "model.safetensors").read_bytes()
    send(hub)
    assert hub.commits == 5  # nothing left to do


def test_what_the_hub_made_of_an_upload_is_verified(workplace: Path, hub: Hub) -> None:
    hub.spoil = "model.safetensors"
    with pytest.raises(
        UserError, match=r"step0: after the upload the hub holds something else under model\.safetensors"
    ):
        send(hub)
    hub.spoil = None
    send(hub, replace=True)
    assert hub.branches["step0"][-1]["model.safetensors"] == (model(0) / "model.safetensors").read_bytes()


def test_another_revision_on_the_hub_is_refused_unless_told(workplace: Path, hub: Hub) -> None:
    send(hub)
    hub.branches["step2"][-1]["pytorch_model.bin"] = b"old"
    change_step_4(workplace)
    commits = hub.commits
    with pytest.raises(UserError, match="holds other content under step2, step4, main; nothing was changed"):
        send(hub)
    assert hub.commits == commits
    send(hub, replace=True)
    assert "pytorch_model.bin" not in hub.branches["step2"][-1]
    assert hub.branches["main"][-1]["model.safetensors"] == (model(4) / "model.safetensors").read_bytes()
    assert json.loads(hub.branches["main"][-1]["manifest.json"])["subject"]["step"] == 4


def test_a_file_behind_a_symbolic_link_is_placed_itself(tmp_path: Path) -> None:
    """As in the hub's cache, whose snapshots are relative links to blobs."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/0").write_bytes(b"weights")
    link = tmp_path / "snapshots/step0/model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../blobs/0")
    target = tmp_path / "models/run/step0/model.safetensors"
    place(File(link, sha256_file(link), 7), target)
    assert not target.is_symlink() and target.read_bytes() == b"weights"


def test_files_of_another_revision_in_a_folder_are_refused_even_if_it_was_never_listed(workplace: Path) -> None:
    """A loader would take them for part of the model; a publication that was killed leaves its folders unlisted."""
    wanted = named(revisions.revisions(RUN, STEPS, CARD), STEPS[-1])
    home = to_folder(Path("out"), REPO, wanted, replace=False)
    (home / "revisions.json").unlink()
    left = home / "main/.README.md.123.tmp"
    left.write_text("half")
    to_folder(Path("out"), REPO, wanted, replace=False)
    assert not left.exists()
    foreign = home / "main/model-00002-of-00002.safetensors"
    foreign.write_bytes(b"of another")
    with pytest.raises(UserError, match="holds other content under main"):
        to_folder(Path("out"), REPO, wanted, replace=False)
    to_folder(Path("out"), REPO, wanted, replace=True)
    assert not foreign.exists() and (home / "main/README.md").exists()


def test_a_manifest_that_names_files_outside_its_folder_is_refused(workplace: Path) -> None:
    path = Path(f"models/{RUN}/step{STEPS[0]}/manifest.json")
    content = read_json(path)
    content["files"]["../../../../escaped"] = content["files"]["config.json"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="lies outside its folder"):
        revisions.revisions(RUN, STEPS, CARD)
