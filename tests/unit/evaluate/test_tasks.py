"""Items made from held-out text and templates."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.common import manifest
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.data.streams import Document, document_id, write_documents
from scripts.evaluate import agreement, loading, passages, tasks
from scripts.evaluate.names import (
    AGREEMENT,
    ARITHMETIC,
    CONTINUATION,
    LAST_WORD,
    OWN_TASKS,
    PERPLEXITY,
    PRONOUNS,
    refuse_python,
)
from scripts.study.config.evaluation import TaskSet
from scripts.study.manifests import CorpusFacts, TasksFacts
from scripts.study.study import load
from tests.fakes import without_facts

WORDS = [
    "king",
    "law",
    "people",
    "of",
    "the",
    "nation",
    "and",
    "great",
    "power",
    "shall",
    "give",
    "his",
    "right",
    "hand",
    "peace",
    "war",
]


def document(text: str, component: str = "drama") -> Document:
    return Document(id=document_id(text), text=text, component=component, origin="made up")


def library(documents: int = 8, sentences: int = 20) -> list[Document]:
    """Documents of random sentences in two components."""
    stream = random.Random(5)
    made = []
    for number in range(documents):
        lines = [" ".join(stream.choices(WORDS, k=9)).capitalize() + "." for _ in range(sentences)]
        made.append(document("\n".join(lines), "drama" if number % 2 else "speeches"))
    return made


@given(st.text(alphabet=st.sampled_from("ab é.\n\t\u2003"), max_size=400), st.integers(4, 60))
def test_passages_are_disjoint_spans_of_the_text(text: str, characters: int) -> None:
    end = 0
    for passage in passages.cut(document(text), characters):
        assert text[passage.start : passage.start + len(passage.text)] == passage.text
        assert characters / 2 <= len(passage.text) and len(passage.text) <= characters
        assert passage.text == passage.text.strip() and passage.start >= end
        end = passage.start + len(passage.text)


@given(st.lists(st.text(alphabet="abc", min_size=1, max_size=8), min_size=1, max_size=60), st.integers(8, 40))
def test_words_that_fit_are_never_cut(words: list[str], characters: int) -> None:
    for passage in passages.cut(document(" ".join(words)), characters):
        assert set(passage.text.split()) <= set(words)


def test_a_long_word_does_not_end_a_document() -> None:
    found = passages.cut(document(f"short {'x' * 50} then some more words"), 20)
    assert [p.text for p in found] == ["x" * 20, "x" * 20, "x" * 10 + " then some", "more words"]


def test_last_word_prefers_a_word_the_context_holds() -> None:
    context = "The king gave the crown to the queen, and the people saw the king"
    item = passages.last_word(passages.Passage("id", "drama", 0, f"{context}, then they went home. And so on"))
    assert item is not None and item["repeated"]
    assert item["target"] == " king" and item["context"] == context.removesuffix(" king")
    plain = passages.last_word(passages.Passage("id", "drama", 0, "x " * 30 + "and then they went home. And so on"))
    assert plain is not None and plain["target"] == " home" and not plain["repeated"]
    assert passages.last_word(passages.Passage("id", "drama", 0, "x " * 60)) is None


def test_continuation_has_the_truth_at_its_label_and_others_from_elsewhere() -> None:
    documents = library()
    texts = {d.id: d for d in documents}
    items = passages.continuation_items(documents, 30, 3)
    assert len(items) == 30 and {item["label"] for item in items} == {0, 1, 2, 3}
    for item in items:
        mine = texts[item["document"]]
        assert item["context"] + item["choices"][item["label"]] in mine.text
        assert len(set(item["choices"])) == passages.CHOICES
        for number, choice in enumerate(item["choices"]):
            assert choice[0].isspace() and not choice[1].isspace()
            if number != item["label"]:
                others = [d for d in documents if d.component == mine.component and d.id != mine.id]
                assert any(choice.strip() in d.text for d in others)


def test_continuation_needs_other_documents() -> None:
    assert passages.continuation_items(library(documents=2), 10, 3) == []  # one a component


def test_components_take_turns() -> None:
    documents = [*library(), *(document(" ".join(WORDS * 9) + str(n), "legal") for n in range(2))]
    items = passages.perplexity_items(documents, 30, 1)
    by = tasks.composition(items)
    assert by["legal"] < by["drama"] and abs(by["drama"] - by["speeches"]) <= 1


@pytest.mark.parametrize("make", [passages.last_word_items, passages.continuation_items, passages.perplexity_items])
def test_items_depend_on_the_seed_and_not_on_the_order_of_documents(make) -> None:  # type: ignore[no-untyped-def]
    documents = library()
    assert make(documents, 20, 1) == make(documents, 20, 1) != make(documents, 20, 2)
    if make is not passages.continuation_items:  # whose distractors are drawn by their place in the component
        assert make(documents[::-1], 20, 1) == make(documents, 20, 1)


def test_a_huge_split_is_looked_at_in_part() -> None:
    few = passages.cut_all(library(documents=40), 100, 2, seed=1)
    assert len({p.document for p in few}) == 2 * passages.MOST_DOCUMENTS * 2


def test_agreement_pairs_differ_in_one_word_and_are_balanced() -> None:
    items = agreement.agreement_items(90, 1234)
    assert tasks.composition(items) == dict.fromkeys(sorted(agreement.PHENOMENA), 10)
    assert len({tuple(sorted(item["choices"])) for item in items}) == 90
    for item in items:
        one, other = (choice.split() for choice in item["choices"])
        assert len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) == 1
    assert sum(item["label"] for item in items) == 45


@pytest.mark.parametrize("phenomenon", agreement.PHENOMENA)
def test_no_sentence_is_good_in_one_pair_and_bad_in_another(phenomenon: str) -> None:
    pairs = [pair for two in agreement.PHENOMENA[phenomenon]() for pair in two]
    assert {good for good, _ in pairs}.isdisjoint(bad for _, bad in pairs)
    assert len(set(pairs)) == len(pairs) >= 60


def test_more_pairs_than_there_are_gives_them_all() -> None:
    total = sum(2 * len(set(twos())) for twos in agreement.PHENOMENA.values())
    assert len(agreement.agreement_items(10**6, 1)) == total


@pytest.mark.parametrize(("asked", "made"), [(1, 2), (2, 2), (9, 8), (90, 90)])
def test_agreement_items_come_in_twos(asked: int, made: int) -> None:
    assert len(agreement.agreement_items(asked, 7)) == made


@given(seed=st.integers(1, 10**6), taste=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_judge_of_words_alone_is_right_half_of_the_time(seed: int, taste: int) -> None:
    """A model without context scores a sentence by its words: by how frequent, or how long in tokens, each is."""

    def score(sentence: str) -> float:
        return sum(1 + passages.draw(taste, word.strip(".").lower()) % 10**6 for word in sentence.split())

    items = agreement.agreement_items(180, seed)
    right = [score(item["choices"][item["label"]]) > score(item["choices"][1 - item["label"]]) for item in items]
    assert sum(right) == 90
    for item, other in zip(items[::2], items[1::2], strict=True):
        assert item["two"] == other["two"] and {item["label"], other["label"]} == {0, 1}


def run_tasks(folder: Path, monkeypatch: pytest.MonkeyPatch, documents: list[Document]) -> Path:
    monkeypatch.chdir(folder)
    path = folder / "data/held-out/documents.jsonl.zst"
    write_documents(path, documents)
    settings = load(ROOT / "studies/smoke.yaml").corpus_settings("held-out")
    manifest.write(
        path.parent, without_facts(CorpusFacts), subject={"corpus": "held-out"}, settings=settings, files=[path]
    )
    monkeypatch.setattr("sys.argv", ["tasks", "--study", str(ROOT / "studies/smoke.yaml")])
    tasks.main()
    return folder / "data/tasks"


def test_the_command_writes_the_same_bytes_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    one = run_tasks(tmp_path / "a", monkeypatch, library())
    other = run_tasks(tmp_path / "b", monkeypatch, library())
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted([f"{t}.{s}" for t in OWN_TASKS for s in ("jsonl", "yaml")] + [manifest.NAME, "record.json"])
    for name in names:
        assert name == "record.json" or (one / name).read_bytes() == (other / name).read_bytes()
    content = manifest.verify(one, TasksFacts)
    assert content.facts.tasks[AGREEMENT].items == content.settings["items"] == 10
    for task in OWN_TASKS:
        config = yaml.safe_load((one / f"{task}.yaml").read_text())
        lines = (one / f"{task}.jsonl").read_text().splitlines()
        fields = {key: config[key] for key in ("doc_to_text", "doc_to_target", "doc_to_choice") if config.get(key)}
        assert config["task"] == task and set(fields.values()) <= set(json.loads(lines[0]))


def test_a_held_out_split_that_is_too_small_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=rf"{LAST_WORD}: the held-out split .* too small"):
        run_tasks(tmp_path, monkeypatch, [document("Too short a text.")])
    assert not (tmp_path / "data/tasks").exists()


def test_every_task_has_a_shape() -> None:
    known = {LAST_WORD, CONTINUATION, AGREEMENT, PERPLEXITY, PRONOUNS, ARITHMETIC}
    assert set(tasks.SHAPES) == set(OWN_TASKS) == known


# --- few-shot examples -----------------------------------------------------------------------------


def users_task(folder: Path, items: list[dict[str, str]], **keys: Any) -> TaskSet:
    """A task of a user's folder with these items in every split it names."""
    lines = "".join(json.dumps(item) + "\n" for item in items)
    (folder / "items.jsonl").write_text(lines)
    (folder / "reading.py").write_text(
        "def shouted(documents):\n    return documents.map(lambda item: {'question': item['question'].upper()})\n"
    )
    splits = [value for key, value in keys.items() if key.endswith("split")]
    task = {
        "task": "my_riddles",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {split: str(folder / "items.jsonl") for split in splits}},
        "output_type": "loglikelihood",
        "doc_to_text": "question",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}],
        **keys,
    }
    text = yaml.safe_dump(task).replace("'!function reading.shouted'", "!function reading.shouted")
    (folder / "riddles.yaml").write_text(text)
    return TaskSet(shots=2, tasks=["my_riddles"], include_path=str(folder))


RIDDLES = [{"question": f"What is number {n}?", "answer": f" answer-{n}."} for n in range(3)]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"test_split": "test"}, True),
        ({"validation_split": "dev"}, False),  # lm-eval knows this case
        ({"validation_split": "dev", "fewshot_split": "dev"}, True),
        ({"training_split": "test", "test_split": "test"}, True),
        ({"test_split": "test", "process_docs": "!function reading.shouted"}, True),
        ({"test_split": "test", "fewshot_split": "test"}, False),  # and this one
    ],
)
def test_an_item_is_never_its_own_example(
    keys: dict[str, str], told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = loading.load_tasks(users_task(tmp_path, RIDDLES, **keys), tmp_path)["tasks"]["my_riddles"]
    assert ("my_riddles: examples are drawn from" in capsys.readouterr().err) == told
    task.build_all_requests()
    assert len(task.instances) == 3
    for instance in task.instances:
        context, answer = instance.args
        assert answer.strip() not in context
        assert context.count("answer-") == 2


def test_examples_of_another_split_are_drawn_as_lm_eval_draws_them(tmp_path: Path) -> None:
    asked = users_task(tmp_path, RIDDLES, training_split="train", test_split="test")
    task = loading.load_tasks(asked, tmp_path)["tasks"]["my_riddles"]
    assert (task.config.test_split, task.fewshot_cfg.split) == ("test", None)


def test_examples_that_can_not_be_told_from_the_item_are_refused(tmp_path: Path) -> None:
    other = {"split": "test", "process_docs": "!function reading.shouted"}
    with pytest.raises(UserError, match=r"my_riddles: .* read in another way"):
        loading.load_tasks(users_task(tmp_path, RIDDLES, test_split="test", fewshot_config=other), tmp_path)


@pytest.mark.parametrize("items", [RIDDLES[:2], [RIDDLES[0], RIDDLES[1], RIDDLES[1]]])
def test_too_few_other_items_for_the_examples_are_refused(items: list[dict[str, str]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="my_riddles: 2 examples are asked for, its data have 1 to draw from"):
        loading.load_tasks(users_task(tmp_path, items, test_split="test"), tmp_path)


TASK = {"task": "my_riddles", "dataset_path": "json", "doc_to_text": "question", "doc_to_target": "answer"}


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"mine.yaml": TASK, "data.jsonl": "{}"}, None),
        ({"mine.yaml": TASK | {"include": "base"}, "base": {"test_split": "test"}}, None),
        ({"mine.yaml": TASK, "more/mine.yml": "process_docs: !function reading.shouted"}, "mine.yml.*!function"),
        ({"mine.yaml": TASK | {"include": "base"}, "base": "x: !function os.getcwd"}, "base.*!function"),
        (
            {"mine.yaml": TASK | {"include": "data.jsonl"}, "data.jsonl": "x: !function os.getcwd"},
            "includes data.jsonl",
        ),
        ({"mine.yaml": TASK | {"include": ["../other.yaml"]}}, r"includes \.\./other\.yaml"),
        ({"mine.yaml": TASK, "odd.yaml": "x: !!python/name:os.getcwd"}, "odd.yaml.*python/name"),
        ({"mine.yaml": TASK, "odd.yaml": "- x"}, "odd.yaml"),
    ],
)
def test_task_files_that_name_python_are_refused_by_their_name(
    files: dict[str, Any], told: str | None, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    if told is None:
        refuse_python(str(tmp_path))
        return
    with pytest.raises(UserError, match=rf"{told}(.|\n)*--task-code"):
        refuse_python(str(tmp_path))


def test_templates_reach_nothing_of_python(tmp_path: Path) -> None:
    asked = users_task(tmp_path, RIDDLES, test_split="test", doc_to_text="{{question.__class__.__name__}}")
    with pytest.raises(UserError, match="a template can't be filled"):
        loading.load_tasks(asked, tmp_path)
