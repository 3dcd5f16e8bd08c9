"""Clusters of duplicates over all documents, and which of them are held out: arithmetic on whole columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scripts.data.feistel import splitmix64
from scripts.study.manifests import Removal

HELD_OUT_SALT = np.uint64(0x8BB84B93962EACC9)  # any constant: makes the choice another than the ids' own order
SINGLE = -1


@dataclass(frozen=True)
class Documents:
    """Every document in the order of the corpora: by component of the study, then part, then place.

    `ids` uint64 [n]; `near` int64 [n], the number of a cluster of near-duplicates or SINGLE; `component` int32 [n],
    index into `names`; `characters` int64 [n]; `reserved` bool [n], of a component that is held out as a whole;
    `planted` bool [n], of what is made here as often as asked, which is never held out (None: there is none).
    """

    ids: np.ndarray
    near: np.ndarray
    component: np.ndarray
    names: list[str]
    characters: np.ndarray
    reserved: np.ndarray
    planted: np.ndarray | None = None


@dataclass(frozen=True)
class Clusters:
    """By document [n]: `cluster` uint64, the id of the cluster's first document; `size` int32; `first` and
    `held_out` bool."""

    cluster: np.ndarray
    size: np.ndarray
    first: np.ndarray
    held_out: np.ndarray


def assign(documents: Documents, held_out_fraction: float) -> Clusters:
    """Clusters named by the id of their first document; equal texts share one even if too short to compare.

    Every component gives `held_out_fraction` of its clusters, rounded up, so that each has held-out text however
    small it is; a cluster counts for the component of its first document. A cluster with a document of a
    reserved component is held out whole, so that no corpus has a near-duplicate of reserved text.
    """
    group = _groups(documents.ids, documents.near)
    count = int(group.max()) + 1 if len(group) else 0
    leader = np.zeros(count, dtype=np.int64)
    leader[group[::-1]] = np.arange(len(group) - 1, -1, -1)  # the last assignment wins, which is the first document
    size = np.bincount(group, minlength=count).astype(np.int32)
    held_out = np.zeros(count, dtype=bool)
    held_out[group[documents.reserved]] = True
    free = ~held_out
    if documents.planted is not None:
        free[group[documents.planted]] = False
    free = np.flatnonzero(free)
    rank = shuffled(documents.ids[leader[free]])
    of = documents.component[leader[free]]
    for number in range(len(documents.names)):
        mine = free[of == number][np.argsort(rank[of == number], kind="stable")]
        held_out[mine[: math.ceil(held_out_fraction * len(mine))]] = True
    return Clusters(
        cluster=documents.ids[leader][group],
        size=size[group],
        first=leader[group] == np.arange(len(group)),
        held_out=held_out[group],
    )


def _groups(ids: np.ndarray, near: np.ndarray) -> np.ndarray:
    """One number a cluster, int64 [n]: of near-duplicates, or of equal texts that are in none."""
    single = near == SINGLE
    group = np.empty(len(ids), dtype=np.int64)
    numbers, group[~single] = np.unique(near[~single], return_inverse=True)
    _, equal = np.unique(ids[single], return_inverse=True)
    group[single] = len(numbers) + equal
    return group


def shuffled(ids: np.ndarray) -> np.ndarray:
    """A number a document that has nothing to do with its place; uint64 [n]."""
    return splitmix64(ids ^ HELD_OUT_SALT)


def removals(documents: Documents, clusters: Clusters, too_short: Mapping[str, int]) -> dict[str, Removal]:
    """What keeping each cluster's first document removes, by component; `too_short`: documents that are compared for
    equality only."""
    found = {}
    for number, name in enumerate(documents.names):
        mine = documents.component == number
        before = int(documents.characters[mine].sum())
        after = int(documents.characters[mine & clusters.first].sum())
        found[name] = Removal(
            documents=int(mine.sum()),
            too_short_documents=too_short.get(name, 0),
            clusters=int((mine & clusters.first).sum()),
            clusters_of_several=int((mine & clusters.first & (clusters.size > 1)).sum()),
            removed_documents=int((mine & ~clusters.first & ~clusters.held_out).sum()),
            held_out_documents=int((mine & clusters.held_out).sum()),
            characters=before,
            characters_kept=after,
            removed_fraction=round(1 - after / before, 4) if before else 0.0,
        )
    return found


def chosen(keys: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    """Of the eligible documents the first of each key: bool [n], given keys uint64 [n] and eligible bool [n]."""
    places = np.flatnonzero(eligible)
    _, first = np.unique(keys[places], return_index=True)
    result = np.zeros(len(keys), dtype=bool)
    result[places[first]] = True
    return result
