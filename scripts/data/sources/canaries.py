"""Canaries: texts that stand in a corpus a known number of times (config: data.components.<x>.canaries)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scripts.study.config.data import Canaries

# everyday words, so that a tokenizer trained with them learns nothing odd
WORDS = Path(__file__).with_name("canary_words.txt").read_text(encoding="utf-8").split()
ORIGIN = re.compile(r"canary-(\d+)-(\d+)#\d+")


@dataclass(frozen=True)
class String:
    """A text, how often it is planted, and the number of it among those with that count."""

    text: str
    count: int
    number: int

    @property
    def origins(self) -> Iterator[str]:
        """The origin of each copy: canary-<count>-<number>#<copy>."""
        return (f"canary-{self.count}-{self.number}#{copy}" for copy in range(self.count))


def strings(asked: Canaries) -> Iterator[String]:
    """All strings; each depends on the seed, its count and its number alone."""
    for count in asked.counts:
        for number in range(asked.strings):
            random = np.random.default_rng([asked.seed, count, number])
            chosen = random.integers(0, len(WORDS), asked.words)
            yield String(" ".join(WORDS[word] for word in chosen) + "\n", count, number)


def canary_count(origin: str) -> int:
    """How often the string of a document of this origin was planted; 0 of any other origin."""
    found = ORIGIN.fullmatch(origin)
    return int(found[1]) if found else 0
