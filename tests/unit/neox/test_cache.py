"""Attention to a cache: with the free end of rows masked or left out, the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scripts.neox.attention import Cache, Past, angles, zeros
from scripts.study.catalogue import Size

ROWS, HEADS, HEAD, PLACES = 3, 2, 8, 12
ANGLES = angles(Size("", 1, HEADS * HEAD, HEADS, 0.0), PLACES, torch.device("cpu"))


def some() -> tuple[Tensor, Tensor, Tensor]:
    """A query of one token, keys and values of all places, drawn."""
    torch.manual_seed(0)
    keys, values = torch.randn(2, ROWS, HEADS, PLACES, HEAD).unbind()
    return torch.randn(ROWS, HEADS, 1, HEAD), keys, values


def past(keys: Tensor, values: Tensor, begin: int, end: int) -> Past:
    """What new tokens [begin, end) see of a cache of one layer."""
    (found,) = Cache(keys[None], values[None], begin).layers(end - begin, ANGLES)
    return found


def by_hand(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    weights = (query.double() @ keys.double().transpose(2, 3) / HEAD**0.5).softmax(3)
    found: Tensor = (weights @ values.double()).float()
    return found


@pytest.mark.parametrize("filled", [1, 5, 6, 11, 12])
def test_one_token_attends_to_what_is_filled(filled: int) -> None:
    """The cache is passed over whole from half full on."""
    query, keys, values = some()
    seen = past(keys, values, filled - 1, filled)
    assert seen.whole is (filled >= PLACES / 2)
    found = seen.attended(query)
    torch.testing.assert_close(found, by_hand(query, keys[:, :, :filled], values[:, :, :filled]))


def test_what_a_free_place_held_before_changes_no_bit() -> None:
    query, keys, values = some()
    seen = past(keys, values, 7, 8)
    before = seen.attended(query)
    keys[:, :, 8:], values[:, :, 8:] = 1e6, -1e6
    assert (seen.attended(query) == before).all()


def test_closer_arithmetic_leaves_free_places_out() -> None:
    _, keys, values = some()
    seen = past(keys.double(), values.double(), 7, 8)
    assert not seen.whole and seen.mask is None


def test_several_tokens_go_on_from_a_cache_causally() -> None:
    _, keys, values = some()
    queries = torch.randn(ROWS, HEADS, 3, HEAD)
    seen = past(keys, values, 4, 7)
    found = seen.attended(queries)
    for token in range(3):
        end = 5 + token
        expected = by_hand(queries[:, :, token : token + 1], keys[:, :, :end], values[:, :, :end])
        torch.testing.assert_close(found[:, :, token : token + 1], expected)
    last = seen.attended(queries[:, :, -1:])
    torch.testing.assert_close(last, found[:, :, -1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [(2, 3, 5), (0, 3)])
def test_caches_begin_as_zeros(dtype: torch.dtype, size: tuple[int, ...]) -> None:
    made = zeros(size, dtype, torch.device("cpu"))
    assert made.shape == size and made.dtype == dtype and not made.any()
    made += 1
    assert made.all()
