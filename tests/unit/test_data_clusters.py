"""Near-duplicates, the held-out split, the tokenizer and what a corpus is made of."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.common.errors import UserError
from scripts.data.deduplicate import Clustered, assign, examples, held_out_clusters, removal_facts
from scripts.data.minhash import bend, cluster_numbers, split_bands
from scripts.data.store import Document, document_id
from scripts.data.tokenize import corpus_facts, document_table, encode, select
from scripts.data.tokenizer import SPACES, alphabet, save, take_file, train
from scripts.study.config import Tokenizer as Wanted

WORDS = [f"word{n}" for n in range(2000)]


def text(seed: int, words: int = 200) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def document(content: str, component: str = "a", origin: str = "m") -> Document:
    return Document(document_id(content), content, component, origin)


def clusters(texts: list[str]) -> list[int | None]:
    return cluster_numbers(texts, bands=13, rows=18, ngram=5, seed=1)


# --- near-duplicates -------------------------------------------------------------------------------


def test_the_split_of_256_hashes_bends_at_the_published_threshold() -> None:
    assert split_bands(256, 0.87) == (13, 18)
    assert abs(bend(13, 18) - 0.87) < 0.003


@given(hashes=st.integers(1, 300), threshold=st.floats(0.05, 1))
def test_a_split_fits_the_hashes_and_none_is_nearer(hashes: int, threshold: float) -> None:
    bands, rows = split_bands(hashes, threshold)
    assert 0.9 * hashes <= bands * rows <= hashes
    for other in range(1, hashes + 1):
        if other * (hashes // other) >= 0.9 * hashes:
            assert abs(bend(bands, rows) - threshold) <= abs(bend(other, hashes // other) - threshold)


def test_near_copies_share_a_cluster_and_others_do_not() -> None:
    base = text(1, 400)
    near = " ".join([*base.split()[:-2], "other", "end"])  # 4 or so of 396 shingles differ
    half = " ".join([*base.split()[:200], *text(2, 200).split()])
    found = clusters([base, text(3), near.upper() + "!", half, base])
    assert found[0] is not None
    assert found[0] == found[2] == found[4]
    assert found[1] is None
    assert found[3] is None
    assert clusters([base, text(3), near.upper() + "!", half, base]) == found


def test_tables_that_differ_in_their_numbers_are_not_copies() -> None:
    tables = [" ".join(f"row {random.Random(seed + n).randint(0, 10**6)}" for n in range(100)) for seed in (1, 1000)]
    assert clusters(tables) == [None, None]


def test_texts_too_short_for_a_shingle_are_in_no_cluster() -> None:
    assert clusters(["one two", "one two", ""]) == [None, None, None]


def test_clusters_are_named_by_their_first_document_and_equal_short_texts_share_one() -> None:
    documents = [document("short"), document("x"), document("short", "b"), document("y", "b"), document("z", "b")]
    rows = assign(documents, [None, 7, None, 7, None], 0.0)
    assert [row.cluster for row in rows] == [document_id(t) for t in ("short", "x", "short", "x", "z")]
    assert [row.cluster_size for row in rows] == [2, 2, 2, 2, 1]
    assert [row.representative for row in rows] == [True, True, False, False, True]
    assert not any(row.held_out for row in rows)
    facts = removal_facts(documents, rows)
    assert facts["b"]["documents"] == 3
    assert facts["b"]["clusters"] == 1
    assert facts["b"]["removed_share"] == round(1 - 1 / 7, 4)
    assert {(e["size"], e["kept"], e["duplicate"]) for e in examples(rows)} == {(2, "m", "m")}


def test_whole_clusters_are_held_out_and_every_component_gives_some() -> None:
    documents = [document(f"{n // 2}", "ab"[n % 40 == 0], f"m{n}") for n in range(400)]
    rows = assign(documents, [None] * 400, 0.03)
    sides: dict[str, set[bool]] = {}
    for row in rows:
        sides.setdefault(row.cluster, set()).add(row.held_out)
    assert all(len(side) == 1 for side in sides.values())
    first = {row.cluster: row.component for row in rows if row.representative}
    held = held_out_clusters(first, 0.03)
    assert sum(first[c] == "a" for c in held) == 6  # of 190, rounded up
    assert sum(first[c] == "b" for c in held) == 1  # of 10
    assert held_out_clusters(first, 0.0) == set()
    assert held <= held_out_clusters(first, 0.05)  # a larger share only adds


# --- what a corpus is made of ------------------------------------------------------------------------


def row(name: str, component: str, cluster: str, representative: bool, held_out: bool = False) -> Clustered:
    return Clustered(name, component, name, cluster, 2, representative, held_out)


ROWS = [
    row("1", "a", "1", True),
    row("2", "a", "1", False),
    row("3", "b", "1", False),
    row("4", "b", "4", True, held_out=True),
    row("5", "b", "4", False, held_out=True),
    row("6", "b", "6", True),
]


@pytest.mark.parametrize(
    ("components", "held_out", "deduplicated", "wanted"),
    [
        ("ab", False, False, [0, 1, 2, 5]),
        ("ab", False, True, [0, 5]),
        ("ab", True, True, [3]),
        ("b", False, True, [2, 5]),  # the representative stands in a component this corpus does not have
    ],
)
def test_selection(components: str, held_out: bool, deduplicated: bool, wanted: list[int]) -> None:
    assert select(ROWS, set(components), held_out=held_out, deduplicated=deduplicated) == wanted


def test_document_table_counts_offsets_and_facts_count_components() -> None:
    table = document_table(ROWS[:3], [4, 1, 7])
    assert table["offset"] == [0, 4, 5]
    facts = corpus_facts(ROWS[:3], [4, 1, 7], 2)
    assert (facts["documents"], facts["tokens"], facts["documents_without_tokens"]) == (3, 12, 2)
    assert facts["components"] == {"a": {"documents": 2, "tokens": 5}, "b": {"documents": 1, "tokens": 7}}


# --- tokenizer -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    return [text(seed) + "\n    indented = 1\n" for seed in range(30)]


def test_training_twice_gives_the_same_files_that_transformers_loads(corpus: list[str], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    for name in ("1", "2"):
        files = save(train(corpus, 400), tmp_path / name)
    for file in files:
        assert (tmp_path / "1" / file.name).read_bytes() == file.read_bytes()
    loaded = AutoTokenizer.from_pretrained(tmp_path / "1")
    assert len(loaded) == 400
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.unk_token_id, loaded.pad_token_id) == (0, 0, 0, 1)
    sentence = "word1   and\n\n        x = 'ü' # 日本 🙂"
    ids = loaded(sentence)
    assert set(ids) == {"input_ids", "attention_mask"}
    assert loaded.decode(ids["input_ids"]) == sentence


def test_the_vocabulary_is_laid_out_as_the_20b_one(corpus: list[str]) -> None:
    tokenizer = train(corpus, 400)
    assert tokenizer.get_vocab_size() == 400
    assert tokenizer.get_vocab_size(with_added_tokens=False) == 400 - 23
    assert [tokenizer.id_to_token(n) for n in (0, 1)] == ["<|endoftext|>", "<|padding|>"]
    assert [tokenizer.id_to_token(n) for n in range(377, 400)] == SPACES
    assert len(alphabet()) == 243
    assert tokenizer.encode("a" + " " * 24 + "b").ids[1] == 377


@given(st.text(max_size=60))
def test_text_survives_up_to_nfc(content: str) -> None:
    import unicodedata

    tokenizer = _trained()
    ids = tokenizer.encode(content, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == unicodedata.normalize("NFC", content)


_CACHE: list = []


def _trained():  # type: ignore[no-untyped-def]
    if not _CACHE:
        _CACHE.append(train([text(seed) for seed in range(30)], 400))
    return _CACHE[0]


def test_end_of_document_follows_texts_that_have_tokens_only() -> None:
    without = list(encode(_trained(), ["word1", "", "word2"], append_eod=False))
    assert list(encode(_trained(), ["word1", "", "word2"], append_eod=True)) == [[*without[0], 0], [], [*without[2], 0]]


def test_vocabularies_the_pipeline_or_the_text_cannot_give_are_refused(corpus: list[str]) -> None:
    with pytest.raises(UserError, match=r"data\.tokenizer\.vocabulary: 200 is not allowed\n  allowed: more than 268"):
        train(corpus, 200)
    with pytest.raises(UserError, match=r"the text gives only .* tokens, 50000 are asked for"):
        train(["a few words"], 50_000)


def test_a_given_file_must_have_the_hash_and_size_the_study_says(corpus: list[str], tmp_path: Path) -> None:
    path = save(train(corpus, 400), tmp_path)[0]
    assert take_file(Wanted(vocabulary=400, file=str(path))).get_vocab_size() == 400
    with pytest.raises(UserError, match="allowed: 400, the tokens of"):
        take_file(Wanted(vocabulary=401, file=str(path)))
    with pytest.raises(UserError, match="the study says: 0000"):
        take_file(Wanted(vocabulary=400, file=str(path), sha256="0" * 64))
    with pytest.raises(UserError, match="no such file"):
        take_file(Wanted(vocabulary=400, file=str(tmp_path / "none.json")))
    path.write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json: not a tokenizer\.json"):
        take_file(Wanted(vocabulary=400, file=str(path)))
