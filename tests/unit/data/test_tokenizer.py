"""The tokenizer, and what tokens a text becomes."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.data import tokenize
from scripts.data.streams import Document
from scripts.data.symbols import BYTE_OF_SYMBOL
from scripts.data.tokenize import batches, encode, encoded
from scripts.data.tokenizer import SPACES, alphabet, save, take_file, train
from scripts.study.config.data import Tokenizer as Wanted
from scripts.study.study import load
from scripts.study.texts import Block

WORDS = [f"word{n}" for n in range(2000)]


def text(seed: int, words: int = 200) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


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
    assert set(BYTE_OF_SYMBOL) == set(ByteLevel.alphabet())
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
    without = encode(_trained(), ["word1", "", "word2"], append_eod=False)
    assert encode(_trained(), ["word1", "", "word2"], append_eod=True) == [[*without[0], 0], [], [*without[2], 0]]


@given(lengths=st.lists(st.integers(0, 30), max_size=30), characters=st.integers(1, 100))
def test_batches_keep_every_text_in_order(lengths: list[int], characters: int) -> None:
    texts = [text(n, length)[:length] for n, length in enumerate(lengths)]
    together = list(batches((Document("", t, "c", "m") for t in texts), characters))
    assert [t for batch in together for t in batch] == texts
    assert all(sum(map(len, batch)) >= characters for batch in together[:-1])
    ids = [ids for batch in encoded(_trained(), iter(together), False) for ids in batch]
    assert ids == encode(_trained(), texts, append_eod=False)


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
    with pytest.raises(UserError, match="does not exist"):
        take_file(Wanted(vocabulary=400, file=str(tmp_path / "none.json")))
    path.write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json: not a tokenizer\.json"):
        take_file(Wanted(vocabulary=400, file=str(path)))


def test_a_tokenizer_of_the_hub_is_checked_as_a_file_is(
    corpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The download itself is the hub library's; no hub is reached here."""
    import huggingface_hub

    path, asked = save(train(corpus, 400), tmp_path)[0], []

    def download(*where: str, revision: str) -> str:
        asked.append((*where, revision))
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    wanted = Wanted(vocabulary=400, repo="EleutherAI/gpt-neox-20b", revision="abc")
    assert take_file(wanted).get_vocab_size() == 400
    assert asked == [("EleutherAI/gpt-neox-20b", "tokenizer.json", "abc")]
    with pytest.raises(UserError, match="the study says: 0000"):
        take_file(wanted.model_copy(update={"sha256": "0" * 64}))

    def fails(*where: str, revision: str) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fails)
    with pytest.raises(UserError, match=r"(?s)gpt-neox-20b at abc could not be downloaded.*no route.*write: file:"):
        take_file(wanted)


@pytest.mark.parametrize(
    ("keep", "wanted"),
    [("none", [True, True, False, True]), ("exact", [False, True, False, True]), ("near", [False, False, False, True])],
)
def test_what_a_block_gives_a_corpus(keep: str, wanted: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents a b | a A x c: equal texts share an id, A is near a, x is held out; the second block is asked for."""
    ids = np.array([1, 2, 1, 3, 4, 5], dtype=np.uint64)
    cluster = np.array([1, 2, 1, 1, 4, 5], dtype=np.uint64)
    held_out = np.array([False, False, False, False, True, False])
    monkeypatch.setattr(tokenize, "documents_in", lambda block: 4)
    monkeypatch.setattr(tokenize.clusters, "read_columns", lambda blocks: (ids, cluster, held_out))
    monkeypatch.setattr(tokenize.clusters, "held_out_of", lambda block: held_out[2:])
    study = load(ROOT / "config.yaml")
    settings = {"corpus": "c", "components": ["code", "drama"], "deduplicate": keep}
    assert tokenize.select(study, settings, Block("drama", 0)).tolist() == wanted
