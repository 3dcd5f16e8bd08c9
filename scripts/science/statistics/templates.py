"""What makes a text easy to say: repetition, counting up, compressibility, frequent tokens; and its kind by them.

Prashanth et al. 2024, "Recite, Reconstruct, Recollect: Memorization in LMs as a Multifaceted Phenomenon": recited is
what stands in the corpus more than five times; reconstructed what is a template that repeats or increments; recollected
the rest.
"""

from __future__ import annotations

import heapq
import re
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RECITED = 6  # occurrences from which on a text is recited
KINDS = ("recite", "reconstruct", "recollect")
PERIODS = 16  # longest pattern that may repeat, in tokens
ALIKE = 0.9  # fraction of tokens that have to be those one period before
NUMBERS = 4  # fewest numbers in an incrementing text
STRIDES = 3  # numbers a line may hold that count up side by side


def period(tokens: Sequence[int] | NDArray[np.integer], longest: int = PERIODS) -> int:
    """The shortest pattern, in tokens, that the tokens repeat; 0 for none. The pattern stands there twice at least."""
    found = np.asarray(tokens)
    for length in range(1, min(longest, len(found) // 2) + 1):
        if (found[length:] == found[:-length]).mean() >= ALIKE:
            return length
    return 0


def increments(text: str) -> bool:
    """Whether the numbers of a text go up or down by constant steps: 1, 2, 3, or 1 5 2 5 3 5 as two side by side."""
    numbers = [int(digits) for digits in re.findall(r"\d{1,9}", text)]
    for stride in range(1, STRIDES + 1):
        if len(numbers) < max(NUMBERS, 3 * stride):
            return False
        steps = np.subtract(numbers[stride:], numbers[:-stride])
        lanes = [set(steps[lane::stride].tolist()) for lane in range(stride)]
        if all(len(lane) == 1 for lane in lanes) and any(lane != {0} for lane in lanes):
            return True
    return False


def kinds(count: NDArray[np.integer], repeats: NDArray[np.bool_], incrementing: NDArray[np.bool_]) -> NDArray[np.str_]:
    """Kind of each text [n] by its occurrences and whether it is a template."""
    found: NDArray[np.str_] = np.where(count >= RECITED, "recite", np.where(repeats | incrementing, *KINDS[1:]))
    return found


def zlib_ratio(text: str) -> float:
    """Bytes of a text compressed by zlib, over its own; 1 of no text."""
    own = text.encode()
    return len(zlib.compress(own, 9)) / len(own) if own else 1.0


def huffman_bits(tokens: Sequence[int] | NDArray[np.integer]) -> float:
    """Bits per token in the Huffman code of the tokens' own counts; 0 if all are the same."""
    counts = sorted(Counter(np.asarray(tokens).tolist()).values())
    total, bits = sum(counts), 0
    heapq.heapify(counts)
    while len(counts) > 1:
        both = heapq.heappop(counts) + heapq.heappop(counts)
        bits += both
        heapq.heappush(counts, both)
    return bits / total if total else 0.0
