"""Token files: the bytes of Megatron's format, and refusals of damaged ones."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.common.errors import UserError
from scripts.data.indexed import bin_path, idx_path, index_bytes, open_tokens, token_dtype, write_tokens

DOCUMENTS = st.lists(st.lists(st.integers(0, 2047), max_size=30), max_size=20)


@settings(deadline=None, max_examples=50)
@given(documents=DOCUMENTS, vocabulary=st.sampled_from([2048, 65_499, 65_500]))
def test_what_is_written_is_read(documents: list[list[int]], vocabulary: int, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    prefix = tmp_path_factory.mktemp("tokens") / "tokens.v1"
    write_tokens(prefix, iter(documents), vocabulary)
    found = open_tokens(prefix)
    assert found.flat.dtype == token_dtype(vocabulary)
    assert [found[n].tolist() for n in range(len(found))] == documents
    assert found.flat.tolist() == [token for document in documents for token in document]
    assert found.offsets.tolist() == [sum(map(len, documents[:n])) for n in range(len(documents))]
    assert found.doc_idx.tolist() == list(range(len(documents) + 1))


def test_the_bytes_are_megatrons(tmp_path: Path) -> None:
    write_tokens(tmp_path / "t", [[5, 6, 7], [8]], 2048)
    assert bin_path(tmp_path / "t").read_bytes() == struct.pack("<4H", 5, 6, 7, 8)
    assert idx_path(tmp_path / "t").read_bytes() == (
        b"MMIDIDX\x00\x00"
        + struct.pack("<Q", 1)
        + b"\x08"
        + struct.pack("<QQ", 2, 3)
        + struct.pack("<2i", 3, 1)
        + struct.pack("<2q", 0, 6)
        + struct.pack("<3q", 0, 1, 2)
    )


def test_the_dtype_switches_at_65500() -> None:
    assert token_dtype(50_277) == np.dtype("<u2")  # the published tokens
    assert token_dtype(65_499) == np.dtype("<u2")
    assert token_dtype(65_500) == np.dtype("<i4")


def test_pointers_do_not_wrap_at_32_bits() -> None:
    sizes = [2**31 - 1] * 3
    content = index_bytes(sizes, np.dtype("<u2"))
    assert struct.unpack_from("<3q", content, 34 + 12) == (0, 2 * (2**31 - 1), 4 * (2**31 - 1))
    with pytest.raises(OverflowError):
        index_bytes([2**31], np.dtype("<u2"))


def test_ids_outside_the_vocabulary_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"document 1: an id is outside \[0, 10\)"):
        write_tokens(tmp_path / "t", [[1], [10]], 10)
    assert list(tmp_path.iterdir()) == []


def at(place: int, value: bytes):  # type: ignore[no-untyped-def]
    return lambda content: content[:place] + value + content[place + len(value) :]


@pytest.mark.parametrize(
    ("damage", "fact"),
    [
        (at(0, b"TNTIDX\x00\x00"), "older TNTIDX format"),
        (at(0, b"something"), "starts with b'something'"),
        (at(9, struct.pack("<Q", 2)), "version 2"),
        (at(17, b"\x06"), "dtype code 6 is a floating-point type"),
        (at(17, b"\x63"), "dtype code 99 is unknown"),
        (lambda content: content[:-1], "bytes, but its header"),
        (lambda content: content + b"\x00", "bytes, but its header"),
        (lambda content: content[:20], "shorter than its 34-byte header"),
        (at(34, struct.pack("<i", -3)), "negative size -3"),
        (at(34, struct.pack("<i", 4)), "pointer 1 is 6"),
        (at(38, struct.pack("<i", 2)), r"t\.bin: 8 bytes, but .*t\.idx counts 5 tokens"),
        (at(17, b"\x04"), "pointer 1 is 6"),
        (at(58, struct.pack("<q", 1)), "don't start with 0"),
        (at(74, struct.pack("<q", 3)), "beyond the 2 sequences"),
    ],
)
def test_a_damaged_index_is_refused_with_file_and_fact(damage, fact: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_tokens(tmp_path / "t", [[5, 6, 7], [8]], 2048)
    index = idx_path(tmp_path / "t")
    index.write_bytes(damage(index.read_bytes()))
    with pytest.raises(UserError, match=fact) as caught:
        open_tokens(tmp_path / "t")
    assert str(tmp_path) in str(caught.value)


def test_truncated_tokens_and_missing_files_are_refused(tmp_path: Path) -> None:
    write_tokens(tmp_path / "t", [[5, 6, 7], [8]], 2048)
    data = bin_path(tmp_path / "t")
    data.write_bytes(data.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"6 bytes, but .* counts 4 tokens of 2 bytes"):
        open_tokens(tmp_path / "t")
    data.unlink()
    with pytest.raises(UserError, match=r"t\.bin: no such file"):
        open_tokens(tmp_path / "t")


def test_sequences_are_counted_from_zero_only(tmp_path: Path) -> None:
    write_tokens(tmp_path / "t", [[5], [8]], 2048)
    found = open_tokens(tmp_path / "t")
    for number in (-1, 2):
        with pytest.raises(IndexError):
            found[number]
