"""Near-duplicate clusters by MinHash and locality-sensitive hashing, with datatrove's stages in one process."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

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


def cluster_numbers(texts: Sequence[str], *, bands: int, rows: int, ngram: int, seed: int) -> list[int | None]:
    """For each text the number of its cluster of near-duplicates, or None if it has none.

    Similarity is the Jaccard index of the sets of word n-grams, words being what white space separates after
    datatrove's simplification (lower case, no punctuation or accents). Texts with fewer than `ngram` words are in
    no cluster.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")
    from datatrove.data import Document
    from datatrove.pipeline.dedup import minhash
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.text import TextNormConfig
    from datatrove.utils.word_tokenizers import WordTokenizer
    from loguru import logger

    class Words(WordTokenizer):
        """Words between white space: datatrove's own tokenizers want language data that is downloaded."""

        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            raise NotImplementedError("MinHash signatures need words only")

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            raise NotImplementedError("MinHash signatures need words only")

    logger.disable("datatrove")
    # sha1 comes with Python; datatrove 0.10 hands str to xxhash, which from version 4 on takes bytes only
    hashing = HashConfig(precision=64, hash_fc="sha1")
    config = minhash.MinhashConfig(
        n_grams=ngram,
        num_buckets=bands,
        hashes_per_bucket=rows,
        seed=seed,
        norm_config=TextNormConfig(norm_numbers=False),  # else tables of different numbers would count as equal
        hash_config=hashing,
    )
    with tempfile.TemporaryDirectory() as name:
        signatures, pairs, clusters = (Path(name) / stage for stage in ("signatures", "pairs", "clusters"))
        documents = (Document(text=text, id=str(number)) for number, text in enumerate(texts))
        minhash.MinhashDedupSignature(str(signatures), config, language=Words("words")).run(documents)
        for band in range(bands):
            minhash.MinhashDedupBuckets(str(signatures), str(pairs), config=config).run(None, band, bands)
        minhash.MinhashDedupCluster(str(pairs), str(clusters), config=config, save_cluster_id=True).run()
        found = dict(_pairs(clusters / "000000.clusters"))
    return [found.get(number) for number in range(len(texts))]


def _pairs(path: Path) -> list[tuple[int, int]]:
    """(document, cluster) pairs of uint32; the file is missing if no document has a near-duplicate."""
    return list(struct.iter_unpack("<2I", path.read_bytes())) if path.exists() else []
