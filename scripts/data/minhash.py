"""Near-duplicates by MinHash and locality-sensitive hashing: datatrove's stages, one job at a time.

Signatures of each part -> pairs that share a band, of each group of bands -> clusters. A document is named by
(part, its number in the part).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.study.config_data import Deduplication

USED_SHARE = 0.9  # a split that leaves more hashes unused bends at the right place but less sharply


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
        if bands * rows >= USED_SHARE * hashes
    ]
    return min(splits, key=lambda split: (abs(bend(*split) - threshold), -split[0] * split[1], split))


def bend(bands: int, rows: int) -> float:
    """Similarity near which two documents begin to count as duplicates, (1/bands)^(1/rows)."""
    return float((1 / bands) ** (1 / rows))


@dataclass(frozen=True)
class Hashing:
    """How documents are compared: Jaccard index of their sets of word n-grams, by `bands` x `rows` hashes."""

    bands: int
    rows: int
    ngram: int
    seed: int

    @classmethod
    def of(cls, wanted: Deduplication) -> Hashing:
        """The study's wish, with the hashes split so that the curve bends at its threshold."""
        bands, rows = split_bands(wanted.hashes, wanted.threshold)
        return cls(bands, rows, wanted.ngram, wanted.seed)


def write_signatures(texts: Iterable[str], folder: Path, part: int, hashing: Hashing) -> None:
    """Write a part's signatures to `folder`/bucket_*/; texts with fewer than `ngram` words have none.

    Words are what white space separates after datatrove's simplification (lower case, no punctuation or accents).
    """
    minhash, config = _datatrove(hashing)
    from datatrove.data import Document
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Words(WordTokenizer):
        """Words between white space: datatrove's own tokenizers want language data that is downloaded."""

        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            raise NotImplementedError("MinHash signatures need words only")

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            raise NotImplementedError("MinHash signatures need words only")

    documents = (Document(text=text, id=str(number)) for number, text in enumerate(texts))
    minhash.MinhashDedupSignature(str(folder), config, language=Words("words")).run(documents, part)


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
    """Jaccard index of the two texts' sets of word n-grams, which the hashes estimate."""
    from datatrove.utils.text import TextNormConfig, simplify_text

    def shingles(text: str) -> set[tuple[str, ...]]:
        words = simplify_text(text, TextNormConfig(norm_numbers=False)).split()
        return {tuple(words[start : start + ngram]) for start in range(len(words) - ngram + 1)}

    one, other = shingles(first), shingles(second)
    return len(one & other) / len(one | other) if one | other else float(first == second)


def _link(path: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / path.name).symlink_to(path.resolve())


def _datatrove(hashing: Hashing) -> tuple[Any, Any]:
    """datatrove's MinHash module and its settings; imported late, because that takes a second."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    from datatrove.pipeline.dedup import minhash
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.text import TextNormConfig
    from loguru import logger

    logger.disable("datatrove")
    return minhash, minhash.MinhashConfig(
        n_grams=hashing.ngram,
        num_buckets=hashing.bands,
        hashes_per_bucket=hashing.rows,
        seed=hashing.seed,
        norm_config=TextNormConfig(norm_numbers=False),  # else tables of different numbers would count as equal
        # sha1 comes with Python; datatrove 0.10 hands str to xxhash, which from version 4 on takes bytes only
        hash_config=HashConfig(precision=64, hash_fc="sha1"),
    )
