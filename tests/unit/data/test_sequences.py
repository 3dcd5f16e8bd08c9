"""Sequences of the three layouts: against a plain list of the stream, and back from a text to the sequences that hold
it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.data import placement, sequences
from scripts.data.megatron import index_maps
from scripts.data.megatron.indexed import Tokens, index_blocks, open_tokens, write_tokens
from scripts.data.placement import Cut, InFileOrder, Mapped
from scripts.data.sequences import Entry, Piece, Sequences, Sighting
from scripts.study.manifests import OrderFacts
from tests.fakes import without_facts

# lengths of documents, empty ones included; enough tokens for a sequence
LENGTHS = st.lists(st.integers(0, 12), min_size=1, max_size=12).filter(lambda sizes: sum(sizes) > 9)
LAYOUTS = ("neox", "feistel", "preshuffled")


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> object:
    """Every loop over blocks has several of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_maps, "BLOCK", 3)
        patch.setattr(placement, "BLOCK", 4)
        yield


def tokens_of(sizes: list[int]) -> Tokens:
    """A corpus whose token ids are their positions in it."""
    wide = np.array(sizes, dtype=np.int64)
    return Tokens(
        flat=np.arange(wide.sum(), dtype=np.uint16),
        sizes=wide.astype(np.int32),
        pointers=(np.cumsum(wide) - wide) * 2,
        doc_idx=np.arange(len(sizes) + 1),
    )


def made(layout: str, sizes: list[int], length: int, asked: int, seed: int) -> Sequences:
    """Sequences of a layout; a preshuffled file has the `sizes`' tokens cut into sequences, one a sequence."""
    if layout == "preshuffled":
        tokens = tokens_of([length + 1] * (sum(sizes) // (length + 1)))
        return Sequences(tokens, Cut(tokens, length, length + 1, len(tokens), InFileOrder()))
    tokens = tokens_of(sizes)
    if layout == "feistel":
        return Sequences(tokens, sequences.placed("feistel", tokens, Path(), length, seed, epochs=2))
    return Sequences(tokens, Mapped(tokens, *index_maps.build_maps(tokens.sizes, length, asked, seed), length))


CASES = given(
    layout=st.sampled_from(LAYOUTS),
    sizes=LENGTHS,
    length=st.integers(1, 9),
    asked=st.integers(1, 30),
    seed=st.integers(1, 1000),
)


@settings(deadline=None)
@CASES
def test_pieces_add_up_to_the_sequence(layout: str, sizes: list[int], length: int, asked: int, seed: int) -> None:
    order = made(layout, sizes, length, asked, seed)
    assert len(order) and order.sequence_length == length
    every = order.sequences(0, len(order))
    for index in range(len(order)):
        pieces = order.pieces(index)
        assert all(piece.begin < piece.end for piece in pieces)
        texts = [order.tokens[piece.document][piece.begin : piece.end] for piece in pieces]
        assert np.concatenate(texts).tolist() == order.sequence(index).tolist() == every[index].tolist()
        assert order.origin([index]).tolist() == [pieces[0].document]


@settings(deadline=None)
@CASES
def test_sightings_are_all_sequences_whose_pieces_touch(
    layout: str, sizes: list[int], length: int, asked: int, seed: int
) -> None:
    order = made(layout, sizes, length, asked, seed)
    random = np.random.default_rng(seed)
    spans = []
    longest = int(np.argmax(order.tokens.sizes))  # the others may all be empty
    for document in [*random.integers(0, len(order.tokens), 5).tolist(), longest]:
        if size := int(order.tokens.sizes[document]):
            begin = int(random.integers(0, size))
            spans += [(document, begin, int(random.integers(begin, size)) + 1), (document, 0, size)]
    wanted: list[list[Sighting]] = [[] for _ in spans]
    for index in range(len(order)):
        at = 0
        for piece in order.pieces(index):
            for found, (document, begin, end) in zip(wanted, spans, strict=True):
                low, high = max(begin, piece.begin), min(end, piece.end)
                if document == piece.document and low < high:
                    found.append(Sighting(index, at + low - piece.begin, low, high))
            at += piece.end - piece.begin
    assert order.sightings_of_many(spans) == wanted
    assert order.sightings_of(*spans[0]) == wanted[0]


def test_a_border_token_is_in_two_sequences_and_the_lost_sequence_in_none() -> None:
    """One document of 21 tokens, sequences of 5 that overlap by one: sequence k is tokens [4k, 4k + 5)."""
    maps = (np.array([0], np.int32), np.array([[0, 4 * k] for k in range(6)], np.int32), np.array([3, 0, 2, 1, 4]))
    tokens = tokens_of([21])
    order = Sequences(tokens, Mapped(tokens, *maps, 4))
    assert len(order) == 4  # of five samples; the fifth, tokens [16, 21), is lost
    assert order.sightings_of(0, 8, 9) == [Sighting(2, 0, 8, 9), Sighting(3, 4, 8, 9)]
    assert order.sightings_of(0, 16, 17) == [Sighting(0, 4, 16, 17)]
    assert order.sightings_of(0, 17, 21) == []
    assert order.pieces(1) == [Piece(0, 0, 5)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_outside_is_refused(layout: str) -> None:
    order = made(layout, [50, 60], 9, 5, seed=1)
    for indices in ([len(order)], [-1]):
        for asked in (order.at, order.origin):
            with pytest.raises(IndexError, match=f"of {len(order)} sequences"):
                asked(indices)
    with pytest.raises(IndexError):
        order.pieces(len(order))
    for span in ((0, 3, 3), (0, -1, 2), (0, 0, 61), (len(order.tokens), 0, 1)):
        with pytest.raises(IndexError, match="document"):
            order.sightings_of(*span)
    assert order.sequences(3, 3).shape == (0, 10)
    assert order.sightings_of_many([]) == []


def test_a_horizon_moves_no_sequence_of_the_counter_order() -> None:
    tokens = tokens_of([40, 0, 33, 5])
    short, long = (Sequences(tokens, sequences.placed("feistel", tokens, Path(), 7, 1234, epochs)) for epochs in (1, 3))
    assert (len(short), len(long)) == (11, 33)
    assert short.sequences(0, 11).tolist() == long.sequences(0, 11).tolist()
    assert sorted(long.sequences(22, 33)[:, 0].tolist()) == list(range(0, 77, 7))


def order_folder(corpus: Path, **facts: object) -> None:
    """A corpus of 8 documents with the feistel order of seed 1234, as the order's command leaves it."""
    write_tokens(corpus / "tokens", [[n] * 5 for n in range(8)], 100)
    known = {"layout": "feistel", "documents": 8, "tokens": 40, "epochs": 1, **facts}
    settings = {"sequence_length": 4, "data_seed": 1234}
    folder = corpus / "order-1234"
    folder.mkdir()
    manifest.write(folder, without_facts(OrderFacts, **known), subject={}, settings=settings)


def test_an_order_of_another_corpus_is_refused(tmp_path: Path) -> None:
    order_folder(tmp_path, documents=9)
    with pytest.raises(
        UserError, match=r"built for 9 documents with 40 tokens, .* has 8 with 40; make the order again"
    ):
        Sequences.open(tmp_path, 1234)
    with pytest.raises(UserError, match=r"order-7/manifest\.json: no such manifest"):
        Sequences.open(tmp_path, 7)


def test_an_unknown_layout_and_missing_maps_are_refused(tmp_path: Path) -> None:
    order_folder(tmp_path / "a", layout="sorted")
    with pytest.raises(UserError, match="layout 'sorted' is not known"):
        Sequences.open(tmp_path / "a", 1234)
    order_folder(tmp_path / "b", layout="neox")
    with pytest.raises(UserError, match=r"doc_idx\.npy: named by .* but missing"):
        Sequences.open(tmp_path / "b", 1234)


def test_documents_come_from_their_row_groups_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order_folder(tmp_path)
    columns = {
        "id": [f"{n:016x}" for n in range(8)],
        "component": ["prose", "verse"] * 4,
        "origin": [f"book#{n}" for n in range(8)],
        "tokens": [5] * 8,
    }
    pq.write_table(pa.table(columns), tmp_path / sequences.TABLE, row_group_size=3)
    order = Sequences.open(tmp_path, 1234)
    read: list[int] = []
    original = pq.ParquetFile.read_row_group

    def counted(file: pq.ParquetFile, group: int, columns: list[str]) -> pa.Table:
        read.append(group)
        return original(file, group, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    assert order.documents([7, 0, 7]) == [
        Entry(f"{7:016x}", "verse", "book#7"),
        Entry(f"{0:016x}", "prose", "book#0"),
        Entry(f"{7:016x}", "verse", "book#7"),
    ]
    assert read == [0, 2]
    assert list(order.components) == ["prose", "verse"] * 4
    assert order.components[1:3] == ["verse", "prose"]
    assert order.sequence_origin(0) == order.components[order.pieces(0)[0].document]


def test_a_corpus_without_its_table_is_one_component(tmp_path: Path) -> None:
    order_folder(tmp_path / "pile")
    order = Sequences.open(tmp_path / "pile", 1234)
    assert order.documents([3]) == [Entry("", "pile", "document 3")]
    assert list(order.components) == ["pile"] * 8
    assert order.sequence_origin(2) == "pile"


def test_the_table_of_another_corpus_is_refused(tmp_path: Path) -> None:
    order_folder(tmp_path)
    pq.write_table(pa.table({"component": ["prose"]}), tmp_path / sequences.TABLE)
    with pytest.raises(UserError, match=r"documents\.parquet: 1 documents, the tokens beside it have 8"):
        Sequences.open(tmp_path, 1234).sequence_origin(0)


def test_a_preshuffled_file_is_read_by_itself(tmp_path: Path) -> None:
    content = [[n, n + 1, n + 2] for n in range(5)]
    write_tokens(tmp_path / "document", content, 100)
    order = Sequences.of_file(tmp_path / "document")
    assert order.sequence_length == 2
    assert order.sequences(0, 5).tolist() == content
    assert order.pieces(3) == [Piece(3, 0, 3)]
    assert order.sightings_of(4, 1, 3) == [Sighting(4, 1, 1, 3)]
    write_tokens(tmp_path / "text", [[1, 2], [3]], 100)
    with pytest.raises(UserError, match=r"text\.idx: .*corpus of documents.* give --study and --corpus"):
        Sequences.of_file(tmp_path / "text")


def test_sequences_of_a_large_file_are_found_without_reading_it(tmp_path: Path) -> None:
    """A file of 10 GB (with holes): 2.4 million sequences of 2049 tokens."""
    count, width = 10_000_000_000 // 4098, 2049
    prefix = tmp_path / "document"
    with prefix.with_suffix(".bin").open("wb") as data:
        data.truncate(count * width * 2)
        data.seek(4098 * (count - 1))
        data.write(np.arange(width, dtype="<u2").tobytes())
    with prefix.with_suffix(".idx").open("wb") as index:
        index.writelines(index_blocks(np.full(count, width, np.int32), np.dtype("<u2")))
    assert len(open_tokens(prefix)) == count
    assert Sequences.of_file(prefix).sequence(count - 1).tolist() == list(range(width))


@pytest.mark.parametrize("name", ["doc_idx", "sample_idx", "shuffle_idx"])
def test_maps_with_a_flipped_bit_are_refused_where_they_point_nowhere(name: str) -> None:
    """Bits that lead to another sequence are for the digests to find; these lead out of the corpus."""
    tokens = tokens_of([5, 6, 7, 8])
    maps = dict(zip(sequences.MAPS, index_maps.build_maps(tokens.sizes, 4, 5, 1), strict=True))
    maps[name] = maps[name].copy()
    maps[name].flat[:] ^= maps[name].dtype.type(1 << 16)
    damaged = Sequences(tokens, Mapped(tokens, *maps.values(), 4))
    for read in (lambda: damaged.sequences(0, 3), lambda: damaged.pieces(1)):
        with pytest.raises(UserError, match="its index maps point beyond its documents"):
            read()
