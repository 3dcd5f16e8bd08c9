"""Results edited by somebody who makes all hashes right: named by the audit, though nothing is scored again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scripts.audit.integrity import exported, memorized, scores
from scripts.audit.integrity.found import look
from scripts.audit.verdict import guarded
from scripts.common.files import sha256_file
from scripts.study.study import load
from tests.workflow.conftest import Workflow
from tests.workflow.test_audit import SMALL, TINY, edit

EVALUATION = Path(f"results/evals/{TINY}/zero-shot/step8.json")
MEMORIZATION = Path(f"results/memorization/{TINY}/step8.parquet")
EXPORT = Path(f"results/export/{SMALL}/step8.json")
LEFT_OUT = (".snakemake", "checkpoints", "*.safetensors", "*.gguf", "*.html", "figures", "logs")  # not looked at here
WEIGHTS = f"models/{SMALL}/step8/model.safetensors"  # of the model that is exported
Frame = Any


@pytest.fixture
def suite(finished: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished study's results as the working directory, and of what they are held against."""
    folder = tmp_path / "suite"
    shutil.copytree(finished.folder, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    shutil.copyfile(finished.folder / WEIGHTS, folder / WEIGHTS)
    monkeypatch.chdir(folder)
    return folder


def failed() -> dict[str, str]:
    """Evidence of the checks of results that fail."""
    study, folder = load(Path("results/study.json")), look()
    samples = [path.as_posix() for path in Path().glob("results/evals/*/*/*.samples.parquet")]
    checks = [
        guarded(scores.check_models_named, study, folder),
        guarded(scores.check_items, study, folder, {path: sha256_file(Path(path)) for path in samples}),
        guarded(memorized.check_scored_sequences, study, folder),
        guarded(exported.check_exported, study, folder),
    ]
    found = {check.id: "\n".join(check.evidence) for check in checks if check.status == "fail"}
    assert "can't be checked" not in str(found)
    return found | ({"unreadable": "\n".join(folder.unreadable)} if folder.unreadable else {})


# --- evaluation -------------------------------------------------------------------------------------


def sampled(change: Callable[[Frame], Frame]) -> None:
    """Change the items of an evaluation, and make their hash right."""
    path = EVALUATION.with_suffix(".samples.parquet")
    frame = change(pd.read_parquet(path).astype({"task": str, "metric": str}))
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
    edit(EVALUATION, lambda content: content.update(samples=sha256_file(path)))


def scores_of(task: str, **said: float | None) -> Callable[[Any], None]:
    """Set scores of a task; None takes one away."""

    def change(content: Any) -> None:
        own = content["results"][task]
        own.update({f"{name},none": value for name, value in said.items()})
        for name in [name for name, value in own.items() if value is None]:
            del own[name]

    return change


def without(*keys: str) -> Callable[[Any], None]:
    """Take a task out of parts of an evaluation."""
    return lambda content: [content[key].pop("castalia_agreement", None) for key in keys] and None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (scores_of("castalia_agreement", acc_stderr=0.01), "castalia_agreement acc_stderr,none is 0.01"),
        (scores_of("castalia_last_word", perplexity_stderr=3.0), "castalia_last_word perplexity_stderr,none is 3.0"),
        (scores_of("castalia_agreement", acc_stderr=None), "castalia_agreement has no acc_stderr,none"),
        (scores_of("castalia_continuation", acc_norm=None), "castalia_continuation has no acc_norm,none"),
        (scores_of("castalia_agreement", f1=0.9), "castalia_agreement holds what the task set does not ask for: f1"),
        (lambda c: c["results"].update(lambada_openai={"acc,none": 0.9}), "results holds what the task set does not"),
        (without("results", "n", "truncated"), "results lacks what the task set asks for: castalia_agreement"),
        (lambda c: c["n"].update(castalia_agreement=9), "9 items of castalia_agreement, the samples hold 10"),
        (lambda c: c["n"].pop("castalia_agreement"), "n lacks what the task set asks for"),
        (lambda c: c["versions"]["tasks"].update(castalia_agreement=7), "castalia_agreement of version 7"),
        (lambda c: c["versions"]["tasks"].update(other=1), "versions.tasks holds what the task set does not ask for"),
        (lambda c: c["commonest_answer"].update(castalia_agreement=1.0), "commonest_answer of castalia_agreement is 1"),
        (lambda c: c["commonest_answer"].pop("castalia_agreement"), "commonest_answer lacks castalia_agreement"),
        (lambda c: c["truncated"].update(castalia_last_word=0), "truncated is not that of"),
        (lambda c: c["vocabulary"].update(rows=1024), "vocabulary.rows is 1024, the run's models have 512"),
        (lambda c: c["vocabulary"].update(tokens=500), "vocabulary is not that of"),
        (lambda c: c.update(shots=5), "shots is 5, the study asks for 0"),
        (lambda c: c.update(task_files={"a.yaml": "0" * 64}), "task_files is not that of"),
        (lambda c: c.update(tasks=None), "its tasks are not those of data/tasks/manifest.json"),
    ],
)
def test_an_evaluation_edited(suite: Path, change: Callable[[Any], None], told: str) -> None:
    edit(EVALUATION, change)
    found = failed()
    assert set(found) <= {"items", "results"} and f"{EVALUATION}: {told}" in "\n".join(found.values()), found


def test_a_truth_is_no_score(suite: Path) -> None:
    edit(EVALUATION, scores_of("castalia_agreement", acc=True))
    assert f"{EVALUATION}: results holds what is no number" in failed()["unreadable"]


def test_samples_without_scores(suite: Path) -> None:
    lone = EVALUATION.with_name("step3.samples.parquet")
    shutil.copyfile(EVALUATION.with_suffix(".samples.parquet"), lone)
    assert f"{lone}: no scores beside it" in failed()["items"]


def test_items_of_an_own_task_edited(suite: Path) -> None:
    """Another answer is right in the task's file; whoever evaluates again then finds the edited score."""
    path = Path("data/tasks/castalia_agreement.jsonl")
    first, *others = path.read_text().splitlines()
    item = json.loads(first)
    lines = [json.dumps({**item, "label": 1 - item["label"]}), *others]
    path.write_text("".join(f"{line}\n" for line in lines))
    assert f"{path}: not the items that data/held-out/documents.jsonl.zst gives" in failed()["items"]


def test_an_own_task_of_odd_items(suite: Path) -> None:
    path = Path("data/tasks/castalia_agreement.jsonl")
    first, *others = path.read_text().splitlines()
    lines = [json.dumps({**json.loads(first), "label": [[]]}), *others]
    path.write_text("".join(f"{line}\n" for line in lines))
    assert f"{path}: can't be read" in failed()["items"]


@pytest.mark.parametrize("version", [None, "", "x", {"a": 1}, "0.4.13\x1b[2J"])
def test_an_evaluation_of_no_version(suite: Path, version: Any) -> None:
    edit(EVALUATION, lambda content: content["versions"].update({"lm-eval": version}))
    assert f"{EVALUATION}: versions names no version of lm-eval" in failed()["unreadable"]


def one_of(task: str, metric: str, value: float) -> Callable[[Frame], Frame]:
    """Set the value of a task's first item."""

    def change(frame: Frame) -> Frame:
        chosen = frame.index[(frame["task"] == task) & (frame["metric"] == f"{metric},none")][0]
        frame.loc[chosen, "value"] = value
        return frame

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda frame: frame.iloc[:0], "castalia_agreement acc,none is"),
        (lambda frame: frame[frame["task"] != "castalia_agreement"], "there are no items of castalia_agreement"),
        (lambda frame: frame[frame["item"] != 3], "10 items of castalia_agreement, the samples hold 9"),
        (lambda frame: frame[frame["metric"] != "choice,none"], "the samples do not hold acc,none, choice,none of"),
        (lambda frame: pd.concat([frame, frame.iloc[:1]]), "an item stands there twice"),
        (lambda frame: frame.assign(item=frame["item"] + 1), "the samples do not hold"),
        (lambda frame: frame.assign(task=frame["task"].replace("castalia_agreement", "x")), "samples of x, which has"),
        (one_of("castalia_agreement", "acc", 0.5), "acc,none of item 0 is 0.5, which the item does not allow"),
        (one_of("castalia_agreement", "choice", 7.0), "choice,none of item 0 is 7.0, which the item does not allow"),
        (one_of("castalia_agreement", "label", 2.0), "label,none of item 0 is 2.0, which the item does not allow"),
        (one_of("castalia_agreement", "bytes_1", 9.0), "bytes_1,none of item 0 is 9.0, which the item does not allow"),
        (one_of("castalia_agreement", "loglikelihood_0", 1.0), "loglikelihood_0,none of item 0 is 1.0, which the item"),
        (one_of("castalia_agreement", "loglikelihood_0", 0.0), "castalia_agreement choice,none of item"),
        (lambda frame: frame[frame["metric"] != "label,none"], "the samples do not hold acc,none, choice,none of"),
        (one_of("castalia_perplexity", "bytes", 9.0), "bytes,none of item 0 is 9.0, which the item does not allow"),
        (one_of("castalia_perplexity", "words", 9.0), "words,none of item 0 is 9.0, which the item does not allow"),
        (one_of("castalia_last_word", "perplexity", 1.0), "perplexity,none of item 0 is 1.0, which the item does not"),
        (one_of("castalia_last_word", "perplexity", np.nan), "an item without value"),
        (one_of("castalia_last_word", "perplexity", -np.inf), "a value is not finite"),
    ],
)  # fmt: skip
def test_items_edited_with_their_hash_made_right(suite: Path, change: Callable[[Frame], Frame], told: str) -> None:
    sampled(change)
    found = failed()
    assert set(found) == {"items"} and told in found["items"], found


def test_samples_of_before_choices_were_kept_are_whole(suite: Path) -> None:
    sampled(lambda frame: frame[~frame["metric"].str.contains(r"_\d|label", regex=True)])
    assert not failed()


def test_an_answer_made_right_with_its_score(suite: Path) -> None:
    """Score, error and item agree; the item's answer is not the one its choice is."""
    frame = pd.read_parquet(EVALUATION.with_suffix(".samples.parquet"))
    own = frame[(frame["task"] == "castalia_agreement") & (frame["metric"] == "acc,none")]["value"]
    values = own.to_numpy(copy=True)
    place = int(np.flatnonzero(values == 0)[0])
    values[place] = 1.0

    def change(frame: Frame) -> Frame:
        chosen = frame.index[(frame["task"] == "castalia_agreement") & (frame["metric"] == "acc,none")]
        frame.loc[chosen, "value"] = values
        return frame

    sampled(change)
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
    edit(EVALUATION, scores_of("castalia_agreement", acc=mean, acc_stderr=error))
    found = failed()
    assert set(found) == {"items"} and f"acc,none of item {place} is 1.0" in found["items"], found
    assert "its items give" not in found["items"]


# --- memorization -----------------------------------------------------------------------------------


def scored(change: Callable[[Frame], Frame]) -> None:
    """Change the rows of a memorization file; what it says of itself stays."""
    before = pq.read_table(MEMORIZATION)
    frame = change(before.to_pandas(types_mapper=pd.ArrowDtype))
    after = pa.Table.from_pandas(frame, schema=before.schema, preserve_index=False)
    pq.write_table(after.replace_schema_metadata(before.schema.metadata), MEMORIZATION)


def with_values(column: str, row: int, value: Any, **others: Any) -> Callable[[Frame], Frame]:
    """Set columns of one row."""

    def change(frame: Frame) -> Frame:
        for name, own in {column: value, **others}.items():
            frame.loc[row, name] = own
        return frame

    return change


def relabelled(frame: Frame) -> Frame:
    """A row of the sample for one of the rest, and the other way round."""
    one, other = frame.index[frame["chosen"] == "sample"][0], frame.index[frame["chosen"] == "rest"][0]
    frame.loc[one, "chosen"], frame.loc[other, "chosen"] = "rest", "sample"
    return frame


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (with_values("memorized", 3, True), "other memorized than its first misses tell, 1 of them"),
        (with_values("first_miss", 3, 32, memorized=True), "1 scores contradict their first misses"),
        (with_values("first_miss", 3, 33), "1 first misses are not from 0 to 32"),
        (with_values("first_miss", 3, -1), "1 first misses are not from 0 to 32"),
        (with_values("score", 3, 1.5), "1 scores contradict their first misses"),
        (with_values("score", 3, 0.1), "other score than as many of the continuation's tokens, 1 of them"),
        (with_values("score", 3, None), "other score than"),
        (with_values("first_miss", 3, None), "a sequence without value"),
        (lambda frame: frame.drop(index=4), "35 sequences, the study draws 36"),
        (lambda frame: frame[frame["chosen"] == "rest"], "16 sequences, the study draws 36"),
        (lambda frame: frame.iloc[:0], "0 sequences, the study draws 36"),
        (lambda frame: pd.concat([frame.iloc[:1], frame.iloc[:-1]]), "other sample_index than of the sequences"),
        (relabelled, "other chosen than of the sequences the study draws, 2 of them"),
        (with_values("component", 3, "verse x"), "other component than of the sequences the study draws, 1 of them"),
        (with_values("count", 3, 5), "other count than of the sequences the study draws, 1 of them"),
        (with_values("copies", 3, 5), "other copies than of the sequences the study draws, 1 of them"),
        (with_values("seen", 3, False), "other seen than of the sequences the study draws, 1 of them"),
        (with_values("step_seen", 3, 4), "other step_seen than of the sequences the study draws, 1 of them"),
    ],
)
def test_memorization_edited(suite: Path, change: Callable[[Frame], Frame], told: str) -> None:
    scored(change)
    found = failed()
    assert set(found) == {"scored_sequences"} and f"{MEMORIZATION}: {told}" in found["scored_sequences"], found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda frame: frame, None),
        (relabelled, "other sampled sequences than the study draws"),
        (lambda frame: frame.drop(index=frame.index[frame["chosen"] == "canary"]), "other sequences than"),
        (lambda frame: pd.concat([frame.iloc[:1], frame.iloc[:-1]]), "a sequence is scored twice"),
        (with_values("seen", 3, False), "other seen than"),
        (with_values("memorized", 3, True), "other memorized than"),
    ],
)
def test_memorization_edited_where_rows_are_too_many_to_draw_again(
    suite: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Frame], Frame], told: str | None
) -> None:
    """Counts, components and which rows repeat are then what the files say."""
    monkeypatch.setattr(memorized, "MOST_TOKENS", 1)
    scored(change)
    found = failed()
    assert found == {} if told is None else f"{MEMORIZATION}: {told}" in found["scored_sequences"], found


def test_rows_of_one_text_have_one_score(suite: Path) -> None:
    """Canaries stand in rows as often as they were planted."""
    study = load(Path("results/study.json"))
    drawn = memorized.draw(study, study.run(TINY))
    assert drawn is not None
    texts, counts = np.unique(drawn.text, return_counts=True)
    if not (counts > 1).any():
        pytest.skip("no text stands in two rows")
    row = int(np.flatnonzero(drawn.text == texts[counts > 1][0])[0])
    scored(with_values("first_miss", row, 5, score=0.5))
    assert "sequences of equal text have another first miss" in failed()["scored_sequences"]


def test_counts_that_lie_in_the_folder_are_not_believed(suite: Path) -> None:
    for path in Path("data/counts").glob("*.npy"):
        np.save(path, np.full_like(np.load(path), 7))
    assert failed() == {}


# --- GGUF files -------------------------------------------------------------------------------------


def of_file(quantization: str, **numbers: Any) -> Callable[[Any], None]:
    """Set numbers of one GGUF file."""
    return lambda content: content["files"][quantization].update(numbers)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (of_file("q4_0", perplexity=504.0), "q4_0: perplexity_ratio is"),
        (of_file("q4_0", perplexity_ratio=1.0), "q4_0: perplexity_ratio is 1.0"),
        (lambda c: c.update(float_perplexity=0.5), "q4_0: a perplexity of"),
        (of_file("q4_0", top1_agreement=0.999), "q4_0: top1_agreement is 0.999, which is no fraction of 256 tokens"),
        (of_file("q4_0", top1_agreement=1.5), "q4_0: top1_agreement is 1.5"),
        (of_file("q4_0", logit_difference=-0.1), "q4_0: logit_difference is -0.1"),
        (of_file("f32", logit_difference=0.5), "f32: logit_difference is 0.5"),
        (of_file("q4_0", bits_per_weight=4.0), "q4_0 is not the file of"),
        (of_file("q4_0", bytes=1), "q4_0 is not the file of"),
        (of_file("q4_0", sha256="0" * 64), "q4_0 is not the file of"),
        (lambda c: c["files"].pop("q4_0"), "holds ['f32'], the study asks for ['f32', 'q4_0']"),
        (lambda c: c.update(tokens=1024), "tokens is not that of the study's files"),
        (lambda c: c.update(model="0" * 64), "model is not that of the study's files"),
        (lambda c: c.update(held_out="0" * 64), "held_out is not that of the study's files"),
        (lambda c: c.update(step=4), "step is not that of the study's files"),
        (lambda c: c["settings"].update(held_out_sequences=8), "settings is not that of the study's files"),
        (lambda c: c.pop("settings"), "can't be read: KeyError"),
        (of_file("q4_0", perplexity="x"), "can't be read: TypeError"),
        (lambda c: c["versions"].update(xllamacpp="none"), "versions names none of xllamacpp"),
    ],
)
def test_numbers_of_gguf_files_edited(suite: Path, change: Callable[[Any], None], told: str) -> None:
    edit(EXPORT, change)
    found = failed()
    assert set(found) == {"exported"} and f"{EXPORT}: {told}" in found["exported"], found


@pytest.mark.parametrize(
    "path", [EXPORT, EXPORT.with_suffix(".record.json"), Path("results/export_memory.csv")], ids=lambda path: path.name
)
def test_numbers_of_gguf_files_removed(suite: Path, path: Path) -> None:
    path.unlink()
    assert str(path) in failed()["exported"]


def test_a_record_and_a_table_of_memory_edited(suite: Path) -> None:
    table, record = Path("results/export_memory.csv"), EXPORT.with_suffix(".record.json")
    text = table.read_text()
    table.write_text(text.replace("q4_0", "q8_0"))
    assert f"{table}: not the table" in failed()["exported"]
    table.write_text(text)
    edit(record, lambda content: content["files"]["q4_0"].update(loaded_mib=-1))
    assert f"{record}: q4_0: loaded_mib is -1" in failed()["exported"]


def test_a_gguf_file_replaced_with_all_hashes_made_right(suite: Path, finished: Workflow) -> None:
    """Written again it is another; of another version of the writer nothing is said."""
    place = Path(f"exports/{SMALL}/step8/manifest.json")
    raw = bytearray((finished.folder / place).with_name("q4_0.gguf").read_bytes())
    raw[-100] ^= 1
    for path in (place, EXPORT):
        of = "q4_0.gguf" if path == place else "q4_0"
        edit(path, lambda c, of=of: c["files"][of].update(sha256=hashlib.sha256(raw).hexdigest()))
    found = failed()["exported"]
    assert found == f"{place.parent}/q4_0.gguf: not what models/{SMALL}/step8 gives"
    edit(place.with_name("record.json"), lambda content: content["packages"].update(gguf="0.1"))
    assert failed() == {}
