"""Token files: the bytes of Megatron's format, and refusals of damaged ones."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.common.errors import UserError
from scripts.data.megatron import indexed
from scripts.data.megatron.indexed import (
    Tokens,
    bin_path,
    fixed_length,
    idx_path,
    index_blocks,
    open_tokens,
    token_dtype,
    write_tokens,
)

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
    assert found.begin_of(np.arange(len(found))).tolist() == [
        sum(map(len, documents[:n])) for n in range(len(documents))
    ]
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
    content = b"".join(index_blocks(sizes, np.dtype("<u2")))
    assert struct.unpack_from("<3q", content, 34 + 12) == (0, 2 * (2**31 - 1), 4 * (2**31 - 1))
    with pytest.raises(OverflowError):
        b"".join(index_blocks([2**31], np.dtype("<u2")))


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
        (at(74, struct.pack("<q", 3)), "fall or go beyond the 2 sequences"),
        (at(66, struct.pack("<q", 3)), "fall or go beyond the 2 sequences"),
    ],
)
def test_a_damaged_index_is_refused_with_file_and_fact(damage, fact: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_tokens(tmp_path / "t", [[5, 6, 7], [8]], 2048)
    index = idx_path(tmp_path / "t")
    index.write_bytes(damage(index.read_bytes()))
    with pytest.raises(UserError, match=fact) as caught:
        open_tokens(tmp_path / "t", thorough=True)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "fact"),
    [
        (at(34, struct.pack("<i", 4)), None),
        (at(38, struct.pack("<i", 2)), r"t\.bin: 8 bytes, but .*t\.idx counts 5 tokens"),
        (at(50, struct.pack("<q", 7)), "the last sequence has 1 tokens of 2 bytes from byte 7 on"),
        (at(50, struct.pack("<q", -2)), "the last sequence has 1 tokens of 2 bytes from byte -2 on"),
        (at(38, struct.pack("<i", -1)), "the last sequence has -1 tokens"),
        (at(74, struct.pack("<q", 3)), "the last document border is 3, there are 2 sequences"),
    ],
)
def test_opening_lightly_looks_at_the_last_sequence_only(damage, fact: str | None, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_tokens(tmp_path / "t", [[5, 6, 7], [8]], 2048)
    index = idx_path(tmp_path / "t")
    index.write_bytes(damage(index.read_bytes()))
    if fact is None:
        assert open_tokens(tmp_path / "t").sizes.tolist() == [4, 1]
        return
    with pytest.raises(UserError, match=fact):
        open_tokens(tmp_path / "t")


def test_opening_and_checking_go_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexed, "BLOCK", 3)
    documents = [[n] * (n % 4) for n in range(10)]
    write_tokens(tmp_path / "t", documents, 2048)
    found = open_tokens(tmp_path / "t", thorough=True)
    assert [found[n].tolist() for n in range(10)] == documents
    assert found.doc_idx.tolist() == list(range(11))
    content = bytearray(idx_path(tmp_path / "t").read_bytes())
    struct.pack_into("<q", content, 34 + 4 * 10 + 8 * 7, 0)
    idx_path(tmp_path / "t").write_bytes(content)
    with pytest.raises(UserError, match="pointer 7 is 0, the sizes before it add up to 18"):
        open_tokens(tmp_path / "t", thorough=True)


@given(sizes=st.lists(st.integers(0, 5), min_size=1, max_size=20).filter(any))
def test_the_document_of_a_token_is_the_one_that_holds_it(sizes: list[int]) -> None:
    wide = np.array(sizes, dtype=np.int64)
    tokens = Tokens(np.zeros(wide.sum(), np.uint16), wide, (np.cumsum(wide) - wide) * 2, np.arange(len(sizes) + 1))
    wanted = [number for number, size in enumerate(sizes) for _ in range(size)]
    assert tokens.document_at(np.arange(wide.sum())).tolist() == wanted


def test_fixed_length_is_that_of_every_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexed, "BLOCK", 2)
    for number, (sizes, length) in enumerate({(4, 4, 4): 4, (4, 3, 5): None, (4, 4, 3): None, (): None}.items()):
        write_tokens(tmp_path / str(number), [[1] * size for size in sizes], 10)
        assert fixed_length(open_tokens(tmp_path / str(number))) == length


@given(
    sizes=st.lists(st.integers(0, 4000), min_size=1, max_size=9),
    dtype=st.sampled_from([2048, 70_000]),
    data=st.data(),
)
@settings(deadline=None, max_examples=30)
def test_spans_of_a_large_file_are_the_same(
    sizes: list[int], dtype: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    prefix = tmp_path_factory.mktemp("tokens") / "t"
    write_tokens(prefix, [np.arange(size) % 2048 for size in sizes], dtype)
    tokens = open_tokens(prefix)
    total = sum(sizes)
    drawn = data.draw(st.lists(st.tuples(st.integers(0, total), st.integers(0, total)), min_size=1, max_size=5))
    begins, ends = np.array([sorted(pair) for pair in drawn]).T
    wanted = [token for begin, end in zip(begins, ends, strict=True) for token in tokens.flat[begin:end].tolist()]
    assert tokens.gather(begins, ends).tolist() == wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexed, "SMALL", 0)
        assert tokens.gather(begins, ends).tolist() == wanted


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_megatron_core_reads_what_is_written_and_the_reverse(dtype: type[np.number], tmp_path: Path) -> None:
    """megatron-core is a development requirement; here also with documents of several and of no sequences."""
    import torch
    from megatron.core.datasets.indexed_dataset import (
        IndexedDataset,
        IndexedDatasetBuilder,
    )

    documents = [[5, 6, 7], [8], [], [65_000 if dtype is np.uint16 else 70_000, 1]]
    write_tokens(tmp_path / "ours", documents, 65_499 if dtype is np.uint16 else 70_001)
    theirs = IndexedDataset(str(tmp_path / "ours"))
    assert theirs.index.dtype == dtype
    assert [theirs[n].tolist() for n in range(len(theirs))] == documents
    assert theirs.document_indices.tolist() == [0, 1, 2, 3, 4]

    builder = IndexedDatasetBuilder(str(bin_path(tmp_path / "theirs")), dtype=dtype)
    for number, document in enumerate(documents):
        builder.add_item(torch.tensor(document, dtype=torch.int64))
        if number in (1, 3):
            builder.end_document()
    builder.finalize(str(idx_path(tmp_path / "theirs")))
    ours = open_tokens(tmp_path / "theirs", thorough=True)
    assert ours.flat.dtype == dtype
    assert [ours[n].tolist() for n in range(len(ours))] == documents
    assert ours.doc_idx.tolist() == [0, 2, 4]
    same = b"".join(index_blocks([3, 1, 0, 2], np.dtype(dtype), [0, 2, 4]))
    assert idx_path(tmp_path / "theirs").read_bytes() == same


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
