"""Auditing what others published: the table, and files that are at hand."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from scripts.audit.external import at_hand
from scripts.audit.external import table as published
from scripts.audit.external.suite import from_table, schedule_of
from scripts.audit.external.table import Entry
from scripts.audit.verdict import Check
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from tests import forks

EXAMPLE = ROOT / "docs/examples/published-suite.csv"
SCHEDULE = [0, 1, 2, 4, 1000, 2000, 3000, 143000]


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def suite(steps: int = 4, repos: tuple[str, ...] = ("a/one", "a/two")) -> list[Entry]:
    files = ("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    return [
        Entry(repo, f"step{step}", file, digest(repo, file, step if file.startswith("model") else 0))
        for repo in repos
        for step in range(steps)
        for file in files
    ]


def failed(checks: list[Check]) -> dict[str, tuple[str, ...]]:
    return {check.id: check.evidence for check in checks if check.status == "fail"}


def changed(entries: list[Entry], repo: str, revision: str, file: str, sha256: str) -> list[Entry]:
    key = (repo, revision, file)
    return [Entry(*key, sha256) if (e.repo, e.revision, e.file) == key else e for e in entries]


def test_a_sound_suite_passes() -> None:
    assert failed(from_table(suite(), [0, 1, 2, 3], set())) == {}


def test_the_branch_main_is_the_last_step_and_no_other() -> None:
    last = [Entry(entry.repo, "main", entry.file, entry.sha256) for entry in suite() if entry.revision == "step3"]
    assert failed(from_table(suite() + last, [0, 1, 2, 3], set())) == {}
    other = [Entry(entry.repo, "main", entry.file, entry.sha256) for entry in suite() if entry.revision == "step2"]
    found = failed(from_table(suite() + other, [0, 1, 2, 3], set()))
    assert found["suite-same-weights"][0] == "a/one: step2, main hold the same weights"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../../etc,step1,passwd,", "line 3: ../../etc@step1/passwd leads out of its folder"),
        ("a/b,step1,/etc/passwd,", "line 3: a/b@step1//etc/passwd leads out of its folder"),
        ('"a/b,step1,c,', "line 3: not repo, revision, file and 64 hex digits"),
    ],
)
def test_tables_that_lead_elsewhere_are_refused(tmp_path: Path, line: str, message: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text(f"repo,revision,file,sha256\na/b,step0,c,{'0' * 64}\n{line}{'0' * 64}\n")
    with pytest.raises(UserError) as raised:
        published.read_table(table)
    assert message in str(raised.value)


def test_every_fault_of_the_example_is_found_and_nothing_else() -> None:
    found = failed(from_table(published.read_table(EXAMPLE), SCHEDULE, published.allowed_pairs(["step0=step1"])))
    assert found == {
        "suite-revisions": ("example/lm-160m-seed2: no revision for step4",),
        "suite-same-weights": (
            "example/lm-12b: step1000, step3000, step143000 share model-00001-of-00002.safetensors, though their other "
            "weights differ",
            "example/lm-2b: step2000, step3000, step143000 hold the same weights",
        ),
        "suite-foreign-weights": (
            "example/lm-160m-seed1 and example/lm-160m-seed2 share weights: "
            "example/lm-160m-seed1@step0/model.safetensors = example/lm-160m-seed1@step1/model.safetensors = "
            "example/lm-160m-seed2@step1/model.safetensors",
        ),
        "suite-configs": ("example/lm-12b: config.json of step2000 is not that of the other 7 revisions",),
    }


def test_a_first_update_at_rate_0_has_to_be_explained() -> None:
    entries = suite()
    for number in (1, 2):
        file = f"model-0000{number}-of-00002.safetensors"
        entries = changed(entries, "a/one", "step1", file, digest("a/one", file, 0))
    assert failed(from_table(entries, None, set())) == {
        "suite-same-weights": ("a/one: step0, step1 hold the same weights",)
    }
    assert failed(from_table(entries, None, published.allowed_pairs(["step0=step1"]))) == {}


@given(step=st.integers(1, 3), shard=st.integers(1, 2))
def test_any_foreign_shard_is_found(step: int, shard: int) -> None:
    file = f"model-0000{shard}-of-00002.safetensors"
    entries = changed(suite(), "a/two", f"step{step}", file, digest("a/one", file, 0))
    (line,) = failed(from_table(entries, None, set()))["suite-foreign-weights"]
    assert f"a/two@step{step}/{file}" in line


@given(which=st.integers(0, 23))
def test_any_missing_file_is_found(which: int) -> None:
    entries = suite()
    gone = entries.pop(which)
    lines = failed(from_table(entries, None, set()))["suite-files"]
    assert any(f"{gone.repo}@{gone.revision}: lacks {gone.file}" in line for line in lines)


def test_a_missing_and_an_extra_step_are_found() -> None:
    (missing, extra) = failed(from_table(suite(repos=("a/one",)), [0, 1, 2, 9], set()))["suite-revisions"]
    assert missing == "a/one: no revision for step9" and extra == "a/one: step3: not in the schedule"


def test_pythias_schedule_has_154_steps() -> None:
    steps = schedule_of("pythia")
    assert steps is not None and len(steps) == 154 and steps[-1] == 143000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no table"),
        ("repo,file\n", "repo,revision,file,sha256"),
        ("repo,revision,file,sha256\n", "names no file"),
        ("repo,revision,file,sha256\na,b,c,123\n", "line 2"),
        (f"repo,revision,file,sha256\na,b,c,{'0' * 64}\na,b,c,{'1' * 64}\n", "line 3: a@b/c stands there twice"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        published.read_table(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[list[Entry], Path]:
    """Twelve steps of a model of width 8 whose embedding grows, and their table."""
    entries = []
    for step in range(12):
        folder = tmp_path / "a/one" / f"step{step}"
        folder.mkdir(parents=True)
        embedding = np.random.default_rng(1).normal(1 + 0.01 * step, 1e-3, (16, 8)).astype(np.float32)
        save_file({"gpt_neox.embed_in.weight": embedding}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"vocab_size": 16, "hidden_size": 8}))
        for path in sorted(folder.iterdir()):
            entries.append(Entry("a/one", folder.name, path.name, hashlib.sha256(path.read_bytes()).hexdigest()))
    return entries, tmp_path


def test_files_as_published_pass(files: tuple[list[Entry], Path]) -> None:
    assert failed(at_hand.checks(*files)) == {}


def test_a_flipped_bit_is_found_at_hand(files: tuple[list[Entry], Path]) -> None:
    path = files[1] / "a/one/step2/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert failed(at_hand.checks(*files))["suite-hashes"][0].startswith("a/one@step2/model.safetensors: sha256")


def test_a_config_of_another_model_is_found(files: tuple[list[Entry], Path]) -> None:
    (files[1] / "a/one/step3/config.json").write_text(json.dumps({"vocab_size": 16, "hidden_size": 9}))
    assert failed(at_hand.checks(*files))["suite-shapes"] == (
        "a/one@step3/config.json: hidden_size 9, the embedding has 8",
    )


def test_late_weights_in_an_early_place_show_in_the_norm(files: tuple[list[Entry], Path]) -> None:
    late = files[1] / "a/one/step11/model.safetensors"
    (files[1] / "a/one/step1/model.safetensors").write_bytes(late.read_bytes())
    assert failed(at_hand.checks(*files))["suite-norms"][0].startswith("a/one@step1: embedding norm")


def test_the_command_ends_with_1_for_a_fault_and_2_for_a_mistake(tmp_path: Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [forks.python(), "-m", "scripts.audit", "external", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    out = tmp_path / "verdict.json"
    done = call("--table", str(EXAMPLE), "--same", "step0=step1", "--out", str(out))
    assert done.returncode == 1 and json.loads(out.read_text())["verdict"] == "fail"
    assert call("--table", str(tmp_path / "none.csv")).returncode == 2


@pytest.mark.parametrize("alias", ["step03", "step-3", "global_step3"])
def test_two_revisions_of_one_step_are_told(alias: str) -> None:
    again = [Entry(e.repo, alias, e.file, digest(alias, e.file)) for e in suite() if e.revision == "step3"]
    found = failed(from_table(suite() + again, None, set()))["suite-steps"]
    assert [line.partition(":")[0] for line in found] == ["a/one", "a/two"]
    assert alias in found[0] and "step 3" in found[0]


def test_digits_of_other_scripts_name_no_step() -> None:
    assert published.step_of("step\u0663") is None and published.step_of("step3") == 3
    with pytest.raises(UserError, match="--schedule"):
        schedule_of("1,\u0663")
    assert (
        list(at_hand.contradictions({"num_hidden_layers": 1}, {"a.layers.\u00b2.b": (1,), "a.layers.0.b": (1,)})) == []
    )


def test_names_that_cant_be_shown_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(f"repo,revision,file,sha256\na/one,step1\0,config.json,{'a' * 64}\n")
    with pytest.raises(UserError, match=r"line 2: .*can't be shown"):
        published.read_table(table)


def test_a_table_whose_rows_all_differ_takes_no_time_squared() -> None:
    """Sixteen thousand revisions with a file of their own each took over a minute."""
    entries = [Entry("a/one", f"step{step}", f"config{step}.json", digest(step)) for step in range(16_000)]
    entries += [Entry("a/one", f"step{step}", "config.json", digest("c", step)) for step in range(16_000)]
    started = time.process_time()
    assert sum(1 for _ in published.uneven_files(entries)) > 16_000 and len(list(published.other_configs(entries))) == 1
    assert time.process_time() - started < 10
