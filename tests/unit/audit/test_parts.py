"""The pure core of the audit: the tree of a lock, histories, distances, drift, the verdict of several parts."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api import metrics

from scripts.audit import page, suite_lock
from scripts.audit import suite_lock as merkle
from scripts.audit.integrity import memorized
from scripts.audit.integrity.converted import spread
from scripts.audit.integrity.distances import (
    DETOUR,
    Point,
    check_bound,
    check_path,
    detour,
    largest_ratio,
    relative,
    rows_of,
)
from scripts.audit.integrity.found import Folder, Found, look, step_in
from scripts.audit.integrity.hashed import check_files, sha256_files
from scripts.audit.integrity.history import History, effective, parse
from scripts.audit.integrity.identity import adam_steps, at
from scripts.audit.integrity.items import Values, error_of, score_of
from scripts.audit.integrity.settings import drifted, pins
from scripts.audit.integrity.task_sets import unlike_set
from scripts.audit.state import state
from scripts.audit.verdict import judged, plain
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import write_json
from scripts.common.manifest import Manifest, NamedFile
from scripts.evaluate.resampling import BOOTSTRAP, standard_error
from scripts.memorize.pieces import Scores
from scripts.study import paths
from scripts.study.manifests import MANIFEST_KINDS, ModelFacts, StepsTaken
from scripts.study.study import Study, load

# Leaves and roots of the certificate-transparency project's reference tests of RFC 6962 (merkletree test vectors)
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


@pytest.mark.parametrize(("count", "expected"), ROOTS.items())
def test_roots_are_those_of_rfc_6962(count: int, expected: str) -> None:
    assert merkle.root([bytes.fromhex(leaf) for leaf in LEAVES[:count]]) == expected


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=40))
def test_a_tree_grown_leaf_by_leaf_has_the_same_root(leaves: list[bytes]) -> None:
    """Independent of recursion: complete subtrees on a stack, joined from the right at the end."""
    stack: list[tuple[int, bytes]] = []
    for leaf in leaves:
        stack.append((0, hashlib.sha256(b"\x00" + leaf).digest()))
        while len(stack) > 1 and stack[-1][0] == stack[-2][0]:
            (height, right), (_, left) = stack.pop(), stack.pop()
            stack.append((height + 1, hashlib.sha256(b"\x01" + left + right).digest()))
    whole = stack.pop()[1]
    while stack:
        whole = hashlib.sha256(b"\x01" + stack.pop()[1] + whole).digest()
    assert merkle.root(leaves) == whole.hex()


FILES = {"models/a/step1/model.safetensors": "a" * 64, "data/x.bin": "b" * 64}


def test_a_lock_changes_with_every_hash_and_every_path() -> None:
    lock = suite_lock.lock_of("s", "pass", FILES)
    assert suite_lock.leaves(FILES)[0] == b"b" * 64 + b"  data/x.bin"
    for other in (FILES | {"data/x.bin": "c" * 64}, {"data/y.bin": "b" * 64} | FILES, {"data/x.bin": "b" * 64}):
        assert suite_lock.lock_of("s", "pass", other)["root"] != lock["root"]


def test_a_lock_refuses_paths_that_sha256sum_would_escape() -> None:
    with pytest.raises(UserError, match="rename it"):
        suite_lock.lock_of("s", "pass", {'data/a"b': "a" * 64})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "other"}, "no lock"),
        ({"schema": 2}, "no lock"),
        ({"files": {}}, "names no files"),
        ({"files": {"../x": "a" * 64}}, "no path below"),
        ({"files": {"/etc/passwd": "a" * 64}}, "no path below"),
        ({"files": {"x": "A" * 64}}, "no sha256"),
        ({"files": {"./x": "a" * 64}}, "write: +'x'"),
        ({"files": {"a//b": "a" * 64}}, "write: +'a/b'"),
        ({"files": {"a/./b": "a" * 64}}, "write: +'a/b'"),
        ({"files": {"a/": "a" * 64}}, "write: +'a'"),
        ({"files": {"a/../b": "a" * 64}}, "write: +'b'"),
        ({"files": {".": "a" * 64}}, "not how a lock writes"),
        ({"verdict": "sound"}, "no verdict"),
        ({"study": 3}, "no study"),
    ],
)
def test_damaged_locks_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "suite.lock.json"
    write_json(path, suite_lock.lock_of("s", "pass", FILES))
    assert suite_lock.read(path)["files"] == FILES
    write_json(path, suite_lock.read(path) | change)
    with pytest.raises(UserError, match=message):
        suite_lock.read(path)


def test_a_lock_that_names_a_path_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "suite.lock.json"
    write_json(path, suite_lock.lock_of("s", "pass", FILES))
    path.write_text(path.read_text().replace('"files": {', f'"files": {{"data/x.bin": "{"c" * 64}",'))
    with pytest.raises(UserError, match="twice"):
        suite_lock.read(path)


def test_a_lock_of_an_unsound_suite_says_so() -> None:
    checks = suite_lock.check_lock(suite_lock.lock_of("s", "fail", FILES), FILES, [])
    assert [check.id for check in checks if check.status == "fail"] == ["lock_verdict"]


def test_a_partial_copy_passes_and_says_what_is_absent() -> None:
    lock = suite_lock.lock_of("s", "pass", FILES)
    checks = {check.id: check for check in suite_lock.check_lock(lock, {"data/x.bin": "b" * 64}, ["data/x.bin"])}
    assert plain(checks.values())["verdict"] == "pass"
    assert checks["lock_whole"].status == "not applicable" and "models/a: 1 files" in checks["lock_whole"].evidence
    with pytest.raises(UserError, match="none of the lock's files"):
        suite_lock.check_lock(lock, {}, [])


def test_files_are_hashed_once_an_inode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(20):
        Path(f"f{number}").write_bytes(bytes([number]) * number * 100_000)
    Path("again").hardlink_to("f3")
    sums = sha256_files([*(f"f{number}" for number in range(20)), "again"], 3)
    assert sums == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}


def test_a_file_that_cannot_be_read_has_no_hash_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = {name: NamedFile("0" * 64, 1) for name in ("a", "b")}
    content = Manifest(1, "model", {}, True, {}, "", {}, files, ModelFacts())
    folder = Folder(manifests={"models/r/step1/manifest.json": Found("models/r/step1/manifest.json", None, content)})
    Path("models/r/step1/a").mkdir(parents=True)  # opening it fails, as opening a file without permission does
    assert sha256_files(["models/r/step1/a"], 1) == {}
    assert check_files(folder, {}).evidence == (
        "models/r/step1/a: named by models/r/step1/manifest.json but can't be read",
        "models/r/step1/b: named by models/r/step1/manifest.json but missing",
    )


KINDS = ", ".join(facts.kind for facts in MANIFEST_KINDS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no mapping"),
        ({"files": []}, "files: [] is not allowed; input should be an object"),
        ({"parents": None}, "parents: None is not allowed; input should be an object"),
        ({"parents": {"a": None}}, "parents.a: None is not allowed; input should be a valid string"),
        ({"files": {"../../x": {"sha256": "", "bytes": 1}}}, "files: '../../x' lies outside its folder"),
        ({"files": {"/etc/passwd": {"sha256": "", "bytes": 1}}}, "files: '/etc/passwd' lies outside its folder"),
        ({"files": {"a": "0"}}, "files.a: '0' is not allowed; input should be an object"),
        (
            {"files": {"a": {"sha256": "0", "bytes": "1"}}},
            "files.a.bytes: '1' is not allowed; input should be a valid integer",
        ),
        (
            {"files": {"\x1b": {"sha256": 7, "bytes": 1}}},
            r"files.\x1b.sha256: 7 is not allowed; input should be a valid string",
        ),
        (
            {"kind": "modle"},
            f"kind: 'modle' is not allowed; allowed: {KINDS}",
        ),
        (
            {"facts": {**vars(ModelFacts()), "sequences": 1}},
            "facts.sequences: there is no such key",
        ),
    ],
)
def test_malformed_manifests_are_told_and_end_no_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = asdict(Manifest(1, "model", {"run": "r", "step": 1}, True, {}, "", {}, {}, ModelFacts()))
    write_json(Path("models/r/step1/manifest.json"), {**whole, **content} if isinstance(content, dict) else content)
    write_json(Path("results/evals/r/s/step1.json"), {"results": {"task": None}, "n": {}})
    Path("models/r/step2").mkdir()
    os.mkfifo("models/r/step2/manifest.json")  # reading it would wait for ever
    folder = look()
    assert f"models/r/step1/manifest.json: {message}" in folder.unreadable
    assert "models/r/step2/manifest.json: no regular file" in folder.unreadable
    assert "results/evals/r/s/step1.json: results holds what is no number" in folder.unreadable
    assert folder.manifests == folder.evaluations == {}
    assert check_files(folder, {}).status == "fail"


# --- names ------------------------------------------------------------------------------------------


def test_run_and_step_of_a_path() -> None:
    assert at("checkpoints/a-seed3/global_step8/manifest.json") == {"run": "a-seed3", "step": 8}
    assert at("checkpoints/a/segments/segment-2/manifest.json") == {"run": "a", "segment": 2}
    assert at("results/evals/a/zero-shot/step12.json") == {"run": "a", "step": 12}
    assert at("results/memorization/a/step0.parquet") == {"run": "a", "step": 0}
    assert [step_in(name) for name in ("global_step8", "step4.samples.parquet", "steps", "step")] == [8, 4, None, None]
    assert [step_in(name) for name in ("global_step08", "step٤", "step0")] == [None, None, 0]  # a step has one name


def test_adams_steps_are_read_where_they_are_told() -> None:
    state = {
        "optimizer_state_dict": {"base_optimizer_state": {"state": {0: {"step": torch.tensor(3.0)}, 1: {"step": 3}}}}
    }
    assert adam_steps(state) == {3} and adam_steps({}) == set()


@given(st.lists(st.integers(0, 999), unique=True, max_size=30).map(sorted), st.integers(1, 10))
def test_a_sample_of_steps_is_spread(steps: list[int], most: int) -> None:
    chosen = spread(steps, most)
    assert len(set(chosen)) == min(most, len(steps)) and set(chosen) <= set(steps)
    if most > 1 and steps:
        assert chosen[0] == steps[0] and chosen[-1] == steps[-1]


# --- histories --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study() -> Study:
    return load(ROOT / "studies/smoke.yaml")


def history(rows: str, rates: list[float], applied: str = "") -> History:
    """A letter per step; 0 in `applied`: it was skipped."""
    lines = [
        {"step": i + 1, "sequences": row, "learning_rate": rate, "applied": int((applied or "1" * len(rows))[i])}
        for i, (row, rate) in enumerate(zip(rows, rates, strict=True))
    ]
    return parse(lines)


def keys(study: Study, own: History, name: str = "pythia-tiny", steps: range = range(5)) -> dict[int, str]:
    return effective(study, {name: own}, name, list(steps))


def test_steps_that_change_nothing_leave_the_history_as_it_is(study: Study) -> None:
    """The first step of Pythia's recipe has learning rate 0; fp16 skips its first ones."""
    found = keys(study, history("abcd", [0.0, 0.1, 0.1, 0.1], "1101"))
    assert found[0] == found[1] and found[2] == found[3]
    assert len({found[0], found[2], found[4]}) == 3


def test_an_update_that_changed_nothing_counts_for_what_comes_after_it(study: Study) -> None:
    """It moved Adam's moments."""
    one, two = (keys(study, history(rows, [0.0, 0.1])) for rows in ("ac", "bc"))
    assert one[0] == one[1] == two[0] == two[1] and one[2] != two[2]


@given(st.text("ab", min_size=4, max_size=4), st.text("ab", min_size=4, max_size=4))
def test_histories_are_equal_up_to_the_first_other_row(study: Study, one: str, two: str) -> None:
    rates = [0.1] * 4
    first, second = keys(study, history(one, rates)), keys(study, history(two, rates))
    for step in range(5):
        assert (first[step] == second[step]) == (one[:step] == two[:step])


def test_other_sizes_have_other_histories(study: Study) -> None:
    own = history("ab", [0.1, 0.1])
    assert not set(keys(study, own).values()) & set(keys(study, own, "pythia-small").values())
    assert effective(study, {}, "pythia-tiny", [0]) == {}


# --- distances --------------------------------------------------------------------------------------


@settings(deadline=None)  # the first call loads torch's optimizers
@given(
    st.lists(st.floats(-1e3, 1e3, width=32).filter(lambda g: abs(g) > 1e-3), min_size=1, max_size=60),
    st.sampled_from([(0.9, 0.95), (0.9, 0.999), (0.8, 0.95), (0.0, 0.9)]),
)
def test_adam_never_moves_further_than_the_bound(gradients: list[float], betas: tuple[float, float]) -> None:
    moved = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([moved], lr=1.0, betas=betas, eps=0.0)
    for gradient in gradients:
        before = moved.item()
        moved.grad = torch.tensor([gradient], dtype=torch.float64)
        adam.step()
        assert abs(moved.item() - before) <= largest_ratio(*betas) * (1 + 1e-9)


def test_the_bound_of_pythias_betas() -> None:
    """Reached by no gradients of few steps: the limit of the bound, sqrt(0.2 / (1 - 0.81 / 0.95))."""
    assert largest_ratio(0.9, 0.95) == pytest.approx(math.sqrt(0.2 / (1 - 0.81 / 0.95)), rel=0.05)
    assert largest_ratio(0.0, 0.9) == pytest.approx(math.sqrt(10), rel=1e-6)


def path_of(places: list[tuple[float, float]], bound: float | None = None) -> list[Point]:
    """A run of two parameters at these places."""

    def lengths(value: float) -> dict[str, float]:
        return {"all": value, "embedding": value, "output": value}

    found = []
    for index, place in enumerate(places):
        back = [math.dist(place, places[index - n]) if index >= n else None for n in (1, 2)]
        near, far = (lengths(value) if value is not None else None for value in back)
        found.append(Point("r", index, lengths(math.hypot(*place)), 0.0, 1.0, near, far, bound if index else None))
    return found


def test_a_swapped_checkpoint_lies_off_the_path() -> None:
    straight = [(float(i), 0.1 * i * i) for i in range(6)]
    assert check_path({"r": path_of(straight)}, []).status == "pass"
    swapped = [straight[i] for i in (0, 1, 3, 2, 4, 5)]
    found = check_path({"r": path_of(swapped)}, [])
    assert found.status == "fail" and "checkpoints/r/global_step2" in found.evidence[0]
    assert check_path({"r": []}, ["checkpoints/r: unreadable"]).status == "fail"


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=3, max_size=3))
def test_a_detour_is_never_shorter_than_the_straight_way(places: list[tuple[float, float]]) -> None:
    a, b, c = places
    assert detour(math.dist(a, b), math.dist(b, c), math.dist(a, c)) >= 1 - 1e-9
    assert detour(0.0, 0.0, 0.0) == 1.0 and detour(1.0, 1.0, 0.0) == math.inf > DETOUR


def test_a_step_longer_than_its_bound_fails_and_learning_rate_0_allows_none() -> None:
    places = [(0.0, 0.0), (1.0, 0.0)]
    assert check_bound({"r": path_of(places, 1.5)}).status == "pass"
    assert "checkpoints/r/global_step1" in check_bound({"r": path_of(places, 0.5)}).evidence[0]
    assert check_bound({"r": path_of([(0.0, 0.0)] * 2, 0.0)}).status == "pass"
    assert check_bound({"r": path_of(places, math.nan)}).status == "fail"
    assert check_bound({"r": path_of(places)}).status == "not applicable"
    assert [row["detour"] for row in rows_of({"r": path_of([(0.0, 0.0), (1.0, 0.0), (2.0, 0.0)])})] == [None, 1.0, None]


def test_unrelated_matrices_are_about_one_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = ({0: {"w": torch.randn(200, 200, generator=generator), "norm": torch.ones(200)}} for _ in range(2))
    assert relative(one, one) == 0 and relative(one, two) == pytest.approx(1, abs=0.02)


# --- drift, and several parts in one verdict ----------------------------------------------------------


def test_drift_names_revisions_and_packages() -> None:
    pinned = pins("torch==2.13.0  # cpu\nlm_eval==0.4.13 ; extra\n--flag\n")
    assert pinned == {"torch": "2.13.0", "lm-eval": "0.4.13"}
    same = {"torch": Counter({"2.13.0+cpu": 4})}
    assert drifted(Counter({"abc": 4}), same, pinned) == []
    assert drifted(Counter({"abc-dirty": 4}), same, pinned) == ["code abc-dirty: 4 artefacts"]
    other = {"torch": Counter({"2.13.0": 3, "2.12.0": 1})}
    assert drifted(Counter({"abc": 3, "def": 1}), other, pinned) == [
        "code abc: 3 artefacts", "code def: 1 artefacts", "torch 2.12.0: 1 artefacts; pinned is 2.13.0"
    ]  # fmt: skip


def part(status: str) -> dict[str, object]:
    return {
        "verdict": status,
        "of": {"checkpoints/none/manifest.json": None},
        "checks": [{"id": "a", "what": "w", "status": status, "evidence": ["<script>e</script>"]}],
    }


def test_one_part_that_fails_fails_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: Study) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(paths.AUDIT / "integrity.json", part("pass"))
    write_json(paths.AUDIT / "crate-metadata.json", {"@graph": []})  # evidence, and no part
    assert page.verdict(page.parts(paths.AUDIT))["verdict"] == "pass"
    write_json(paths.AUDIT / "replay.json", part("fail"))
    found = page.parts(paths.AUDIT)
    content = page.verdict(found)
    assert content["verdict"] == "fail" and [check["id"] for check in content["checks"]] == ["integrity.a", "replay.a"]
    write_json(paths.VERDICT, content)
    assert page.verdict(page.parts(paths.AUDIT)) == content  # the verdict is no part of itself
    text = page.page(study, found, None)
    assert "is not what it says" in text and "&lt;script&gt;" in text and "<script>e" not in text
    assert "crate-metadata.json" in text


def test_a_damaged_part_does_not_pass_for_a_sound_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no verdict"):
        page.parts(tmp_path)
    write_json(tmp_path / "replay.json", {"checks": [{"id": "a", "what": "w", "status": "maybe", "evidence": []}]})
    (damaged,) = page.parts(tmp_path)["replay"]
    assert damaged.status == "fail" and str(tmp_path / "replay.json") in damaged.evidence[0]


def test_facts_between_steps_are_the_trainers() -> None:
    own = history("abc", [0.0, 0.2, 0.1], "101")
    assert own.steps_taken(1, 3) == StepsTaken(
        samples_digest=hashlib.sha256(b"bc").hexdigest(),
        steps_applied=1,
        steps_skipped=1,
        learning_rates=(0.1, 0.2),
    )
    assert own.steps_taken(0, 0).learning_rates is None
    assert np.array_equal(own.step[own.between(1, 2)], [2])


# --- memorization and scores --------------------------------------------------------------------------


def test_scores_of_memorization_agree_with_each_other() -> None:
    """Of a continuation of 4 tokens; the last two rows hold one text."""
    text = np.array([1, 2, 3, 3], np.uint64)

    def told(misses: list[int], hits: list[int] | None) -> list[str]:
        found = Scores(np.array(misses, np.int16), None if hits is None else np.array(hits, np.int16))
        return list(memorized.impossible(found, 4, text))

    assert told([4, 0, 2, 2], [4, 0, 3, 3]) == told([4, 0, 2, 2], None) == []
    assert told([5, -1, 2, 2], None) == ["2 first misses are not from 0 to 4"]
    assert told([4, 0, 2, 2], [3, 4, 3, 3]) == ["2 scores contradict their first misses"]
    assert told([4, 0, 2, 1], [4, 0, 3, 2]) == [
        "1 sequences of equal text have another first miss", "1 sequences of equal text have another score"
    ]  # fmt: skip


def test_a_groups_score_is_a_mean_of_its_tasks() -> None:
    study = load(ROOT / "studies/smoke.yaml")
    study.file.evaluation.task_sets["zero-shot"].tasks[:] = ["both"]
    content = {
        "shots": 0,
        "results": {
            "one": {"acc,none": 0.2, "acc_stderr,none": 0.1},
            "two": {"acc,none": 0.6, "acc_stderr,none": 0.2},
            "both": {"acc,none": 0.4, "acc_stderr,none": 0.11},
        },
        "n": {"one": 10, "two": 10, "both": 20},
        "truncated": {"one": 0, "two": 0},
        "commonest_answer": {},
        "vocabulary": {"rows": 512},
        "versions": {"tasks": {}},
    }

    def told(**changed: Any) -> list[str]:
        found: Found[Any] = Found("results/evals/pythia-tiny/zero-shot/step8.json", None, {**content, **changed})
        return [line.partition(": ")[2] for line in unlike_set(study, found, {}, {})]

    assert told() == []
    for scores in ({"acc,none": 0.7}, {"acc,none": 0.1}, {"acc_stderr,none": 0.3}, {"f1,none": 0.5}):
        metric, value = next(iter(scores.items()))
        changed = {**content["results"], "both": scores}
        assert told(results=changed) == [f"both {metric} is {value}, which no mean of its tasks' is"]
    assert told(n={"one": 10, "two": 10, "both": 21}) == ["21 items of both, all tasks together have 20"]


def test_standard_errors_are_lm_evals() -> None:
    values = np.random.default_rng(1).normal(-3, 1, 50)
    items = {f"{name},none": Values(np.arange(50), values) for name in ("acc", "perplexity", "f1")}
    assert error_of("acc,none", items) == pytest.approx(metrics.mean_stderr(values.tolist()), rel=1e-12)
    resampled = standard_error(metrics.perplexity, values.tolist(), BOOTSTRAP)
    assert error_of("perplexity,none", items) == pytest.approx(resampled, rel=1e-9)
    assert error_of("f1,none", items) is None and score_of("f1,none", items) is None
    one = {"acc,none": Values(np.arange(1), values[:1])}
    assert error_of("acc,none", one) is None and score_of("acc,none", one) == values[0]


def test_a_verdict_of_an_earlier_state_never_shows_beside_a_changed_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read, absent = Path("checkpoints/a/manifest.json"), Path("checkpoints/b/manifest.json")
    write_json(read, {"weights": 1})
    sound = plain([judged("replay-weights", "it replays", [], "every byte equal")])
    write_json(paths.AUDIT / "replay.json", {**sound, "of": state([read, absent])})
    assert [check.id for check in page.parts(paths.AUDIT)["replay"]] == ["replay-weights"]
    write_json(read, {"weights": 2})
    (told,) = page.parts(paths.AUDIT)["replay"]
    assert (told.id, told.status) == ("state", "not applicable") and f"{read}: another since" in told.evidence
    write_json(paths.AUDIT / "integrity.json", {**sound, "part": "integrity", "of": {read.as_posix(): "0" * 64}})
    (told,) = page.parts(paths.AUDIT)["integrity"]
    assert (told.id, told.status) == ("state", "fail")
    for of in ({}, {"of": {}}):  # taken away: it may be of any suite
        write_json(paths.AUDIT / "integrity.json", {**sound, "part": "integrity", **of})
        (told,) = page.parts(paths.AUDIT)["integrity"]
        assert (told.id, told.status) == ("state", "fail") and "names no state of the suite" in told.evidence[0]
    write_json(read, {"weights": 1})
    write_json(absent, {})
    assert [check.id for check in page.parts(paths.AUDIT)["replay"]] == ["state"]
