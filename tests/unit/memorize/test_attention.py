"""Attention to a cache: with the free end of sequences masked or left out, the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scripts.memorize.attention import Span, attended, rotations
from scripts.memorize.model import zeros

SEQUENCES, HEADS, HEAD, PLACES = 3, 2, 8, 12
TURNS = rotations(PLACES, HEAD, 4, 10_000.0)


def some() -> tuple[Tensor, Tensor, Tensor]:
    """A query of one token, keys and values of all places, drawn."""
    torch.manual_seed(0)
    keys, values = torch.randn(2, SEQUENCES, HEADS, PLACES, HEAD).unbind()
    return torch.randn(SEQUENCES, HEADS, 1, HEAD), keys, values


def by_hand(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    weights = (query.double() @ keys.double().transpose(2, 3) / HEAD**0.5).softmax(3)
    found: Tensor = (weights @ values.double()).float()
    return found


@pytest.mark.parametrize("filled", [1, 5, 6, 11, 12])
def test_one_token_attends_to_what_is_filled(filled: int) -> None:
    """The cache is passed over whole from half full on."""
    query, keys, values = some()
    span = Span.of(filled - 1, filled, PLACES, TURNS, torch.float32)
    assert span.whole is (filled >= PLACES / 2)
    found = attended(query, keys, values, span)
    torch.testing.assert_close(found, by_hand(query, keys[:, :, :filled], values[:, :, :filled]))


def test_what_a_free_place_held_before_changes_no_bit() -> None:
    query, keys, values = some()
    span = Span.of(7, 8, PLACES, TURNS, torch.float32)
    before = attended(query, keys, values, span)
    keys[:, :, 8:], values[:, :, 8:] = 1e6, -1e6
    assert (attended(query, keys, values, span) == before).all()


def test_closer_arithmetic_leaves_free_places_out() -> None:
    span = Span.of(7, 8, PLACES, TURNS, torch.float64)
    assert not span.whole and span.mask is None
    assert span.turns.dtype == torch.complex128


def test_several_tokens_go_on_from_a_cache_causally() -> None:
    _, keys, values = some()
    queries = torch.randn(SEQUENCES, HEADS, 3, HEAD)
    span = Span.of(4, 7, PLACES, TURNS, torch.float32)
    found = attended(queries, keys, values, span)
    for token in range(3):
        end = 5 + token
        expected = by_hand(queries[:, :, token : token + 1], keys[:, :, :end], values[:, :, :end])
        torch.testing.assert_close(found[:, :, token : token + 1], expected)
    last = attended(queries[:, :, -1:], keys, values, span)
    torch.testing.assert_close(last, found[:, :, -1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [(2, 3, 5), (0, 3)])
def test_caches_begin_as_zeros(dtype: torch.dtype, size: tuple[int, ...]) -> None:
    made = zeros(size, dtype, torch.device("cpu"))
    assert made.shape == size and made.dtype == dtype and not made.any()
    made += 1
    assert made.all()
