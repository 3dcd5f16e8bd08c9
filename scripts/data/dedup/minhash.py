"""Near-duplicates by MinHash and locality-sensitive hashing: datatrove's stages, one job at a time.

Signatures of each part -> pairs that share a band, of each group of bands -> clusters. A document is named by
(part, its number in the part).
"""

from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import regex  # knows the scripts of characters; datatrove needs it too

from scripts.study.config.data import Deduplication

# Accents, and the points of scripts that are mostly written without them. Marks of other scripts spell: Devanagari's
# vowel signs, Thai tones, and kana's voicing marks, the two that are inherited.
ACCENT = regex.compile(
    r"[\p{Mn}&&[\p{sc=Inherited}\p{sc=Greek}\p{sc=Cyrillic}\p{sc=Arabic}\p{sc=Hebrew}\p{sc=Syriac}]--[\u3099\u309A]]",
    regex.V1,
)
# A character of a script that doesn't separate its words, with its marks; what follows to guide line breaks is not text
UNSEPARATED = regex.compile(
    r"([\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\u30FC\p{sc=Bopomofo}\p{sc=Yi}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmer}"
    r"\p{sc=Myanmar}\p{sc=Tai_Le}\p{sc=New_Tai_Lue}\p{sc=Tai_Tham}\p{sc=Tai_Viet}\p{sc=Tibetan}\p{sc=Javanese}"
    r"\p{sc=Balinese}]\p{M}*)\p{Cf}*"
)
TOGETHER = 1 << 14  # shingles hashed at a time: a gigabyte would not do for all of one long text
USED_FRACTION = 0.9  # a split that leaves more hashes unused bends at the right place but less sharply


def split_bands(hashes: int, threshold: float) -> tuple[int, int]:
    """(bands, rows) with bands * rows <= hashes whose LSH curve bends nearest to `threshold`.

    Documents of similarity s share a band with probability 1 - (1 - s^rows)^bands, steepest near
    (1/bands)^(1/rows) (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4.2). Only splits that use at
    least nine tenths of the hashes count, because few hashes bend at the same place but more gently.
    """
    splits = [
        (bands, rows)
        for bands in range(1, hashes + 1)
        for rows in range(1, hashes // bands + 1)
        if bands * rows >= USED_FRACTION * hashes
    ]
    return min(splits, key=lambda split: (abs(bend(*split) - threshold), -split[0] * split[1], split))


def bend(bands: int, rows: int) -> float:
    """Similarity near which two documents begin to count as duplicates, (1/bands)^(1/rows)."""
    return float((1 / bands) ** (1 / rows))


@dataclass(frozen=True)
class Hashing:
    """How documents are compared: Jaccard index of their sets of n-grams of `words`, by `bands` x `rows` hashes."""

    bands: int
    rows: int
    ngram: int
    seed: int

    @classmethod
    def of(cls, wanted: Deduplication) -> Hashing:
        """The study's wish, with the hashes split so that the curve bends at its threshold."""
        bands, rows = split_bands(wanted.hashes, wanted.threshold)
        return cls(bands, rows, wanted.ngram, wanted.seed)


def words(simplified: str) -> list[str]:
    """What is compared, n neighbours a shingle: what white space separates, without accents, and each character of
    scripts that don't separate their words (Chinese, Japanese, Thai ...).

    `simplified` is a text after datatrove's simplification, which makes letters small and punctuation blanks.
    """
    if simplified.isascii():
        return simplified.split()
    plain = ACCENT.sub("", unicodedata.normalize("NFD", simplified))
    spread: str = UNSEPARATED.sub(r" \1 ", plain)
    return spread.split()


def write_signatures(texts: Iterable[str], folder: Path, part: int, hashing: Hashing) -> np.ndarray:
    """Write a part's signatures to `folder`/bucket_*/; texts with fewer than `ngram` words have none.

    Returns the numbers of the texts that have one, sorted.
    """
    minhash, config = _datatrove(hashing)
    from datatrove.data import Document
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Words(WordTokenizer):
        """`words`: datatrove's own tokenizers want language data that is downloaded."""

        def word_tokenize(self, text: str) -> list[str]:
            return words(text)

        def sent_tokenize(self, text: str) -> list[str]:
            raise NotImplementedError("MinHash signatures need words only")

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            raise NotImplementedError("MinHash signatures need words only")

    class Signature(minhash.MinhashDedupSignature):  # type: ignore[name-defined]
        """In memory that doesn't grow with a text."""

        def get_signature(self, shingles: np.ndarray) -> Any:
            if len(shingles) <= TOGETHER:
                return super().get_signature(shingles)
            halves = np.array_split(shingles, 2)
            return np.minimum(*map(self.get_signature, halves)).tolist()

    documents = (Document(text=text, id=str(number)) for number, text in enumerate(texts))
    Signature(str(folder), config, language=Words("words")).run(documents, part)
    record = np.dtype([("hashes", "<u8", (hashing.rows,)), ("number", "<u4")])
    numbers = np.fromfile(folder / "bucket_000" / f"{part:05d}.minhash.sig", record)["number"]
    return np.sort(numbers)


def write_pairs(signatures: Sequence[Path], folder: Path, bands: Iterable[int], hashing: Hashing) -> None:
    """Write the pairs that share one of these bands, from the signatures of all parts, to `folder`/*.dups."""
    minhash, config = _datatrove(hashing)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        together = Path(name).resolve()
        for path in (file for part in signatures for file in sorted(part.glob("bucket_*/*.minhash.sig"))):
            _link(path, together / path.parent.name)
        stage = minhash.MinhashDedupBuckets(str(together), str(folder), config=config)
        for band in bands:
            stage.run(None, band, hashing.bands)


def read_clusters(pairs: Sequence[Path], hashing: Hashing) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """By part: numbers of the documents that have near-duplicates and the number of each one's cluster.

    datatrove joins the pairs in memory, about 0.5 kB a document that has a near-duplicate.
    """
    minhash, config = _datatrove(hashing)
    with tempfile.TemporaryDirectory(dir=pairs[0].parent) as name:
        together, clusters = Path(name).resolve() / "pairs", Path(name).resolve() / "clusters"
        together.mkdir()
        for path in (file for group in pairs for file in sorted(group.glob("*.dups"))):
            _link(path, together)
        minhash.MinhashDedupCluster(str(together), str(clusters), config=config, save_cluster_id=True).run()
        found = {}
        for path in sorted(clusters.glob("*.clusters")):  # none at all if no document has a near-duplicate
            both = np.fromfile(path, dtype="<u4").reshape(-1, 2)
            found[int(path.stem)] = both[:, 0].astype(np.int64), both[:, 1].astype(np.int64)
        return found


def similarity(first: str, second: str, ngram: int) -> float:
    """Jaccard index of the two texts' sets of n-grams of `words`, which the hashes estimate."""
    from datatrove.utils.text import simplify_text

    def shingles(text: str) -> set[tuple[str, ...]]:
        found = words(simplify_text(text, simplification()))
        return {tuple(found[start : start + ngram]) for start in range(len(found) - ngram + 1)}

    one, other = shingles(first), shingles(second)
    return len(one & other) / len(one | other) if one | other else float(first == second)


def _link(path: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / path.name).symlink_to(path.resolve())


def simplification() -> Any:
    """datatrove's settings: numbers stay, else tables of different ones would count as equal; `words` drops accents."""
    from datatrove.utils.text import TextNormConfig

    return TextNormConfig(norm_numbers=False, norm_unicode_diacritics=False)


def _datatrove(hashing: Hashing) -> tuple[Any, Any]:
    """datatrove's MinHash module and its settings; imported late, because that takes a second."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    from datatrove.pipeline.dedup import minhash
    from datatrove.utils.hashing import HashConfig
    from loguru import logger

    logger.disable("datatrove")
    return minhash, minhash.MinhashConfig(
        n_grams=hashing.ngram,
        num_buckets=hashing.bands,
        hashes_per_bucket=hashing.rows,
        seed=hashing.seed,
        norm_config=simplification(),
        # sha1 comes with Python; datatrove 0.10 hands str to xxhash, which from version 4 on takes bytes only
        hash_config=HashConfig(precision=64, hash_fc="sha1"),
    )
