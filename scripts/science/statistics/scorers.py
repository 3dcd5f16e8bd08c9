"""Scores of a run and of its changed copy put side by side, where one scorer gave both.

Two versions of a scorer give one model two scores: a difference between them is then no effect of the change.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

SAME, UNKNOWN, MIXED = "same", "unknown", "mixed"


class Matched(NamedTuple):
    """`pairs`: the keys, `base`, `changed`, `effect` (changed - base), and `scorers`: whether both scorers are known to
    be one ("same"), or not known ("unknown"). `refused`: pairs of two scorers, with both ("mixed")."""

    pairs: pd.DataFrame
    refused: pd.DataFrame


def matched(base: pd.DataFrame, changed: pd.DataFrame, keys: list[str]) -> Matched:
    """The scores that both tables have under the same `keys` (step, task, metric, ...); of each a `value` and a
    `scorer`, empty where none is told. What one alone has is left out; pairs are sorted by the keys."""
    columns = [*keys, "value", "scorer"]
    both = base[columns].merge(changed[columns], on=keys, suffixes=("_base", "_changed"), validate="one_to_one")
    known = both["scorer_base"].ne("") & both["scorer_changed"].ne("")
    one = both["scorer_base"] == both["scorer_changed"]
    both = both.assign(scorers=(known & one).map({True: SAME, False: UNKNOWN}).mask(known & ~one, MIXED))
    both = both.sort_values(keys, ignore_index=True)
    refused = both[both["scorers"] == MIXED].reset_index(drop=True)
    pairs = both[both["scorers"] != MIXED].reset_index(drop=True)
    named = pairs.rename(columns={"value_base": "base", "value_changed": "changed"})
    named = named.assign(effect=named["changed"] - named["base"])
    return Matched(named[[*keys, "base", "changed", "effect", "scorers"]], refused)


def told(refused: pd.DataFrame) -> str:
    """What was refused, in a sentence; nothing if nothing was."""
    if refused.empty:
        return ""
    scorers = " and ".join(sorted({*refused["scorer_base"], *refused["scorer_changed"]}))
    return f"{len(refused)} pairs of scores are left out, for two scorers gave them ({scorers})"


def unlike(one: pd.DataFrame, other: pd.DataFrame, keys: list[str]) -> int:
    """How many rows two tables of `keys` and `value` don't share: a value that is not the very same number, bit by bit
    but for the sign of zero, or that one alone has."""
    both = one.merge(other, on=keys, how="outer", suffixes=("", "_other"), indicator=True, validate="one_to_one")
    same = (both["value"] == both["value_other"]) & (both["_merge"] == "both")
    return int((~same).sum())
