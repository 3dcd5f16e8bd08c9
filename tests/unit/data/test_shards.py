"""Shards: names, hash lists, cutting a token file and putting it together again, and what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import sha256_file
from scripts.data.megatron import joined
from scripts.data.megatron.indexed import bin_path, idx_path, open_tokens, write_tokens
from scripts.data.megatron.shards import (
    NAME,
    PYTHIA_NAME,
    Sharded,
    in_order,
    index_totals,
    parse_hashes,
    read_hashes,
    sha256_given,
    shard_name,
    unsharded,
    write_hashes,
    write_pythia_hashes,
)
from scripts.data.tools import shard, unshard
from tests import forks

# first and last lines of EleutherAI/pythia utils/shard_hashes.txt, which ends without a line end
PUBLISHED = (
    "pile_0.87_deduped_text_document-00000-of-00082.bin "
    "44fb8e4898a07bacb71aba969afc4ffbe382813c09420122d57451cebe1d56a2\n"
    "pile_0.87_deduped_text_document-00082-of-00082.bin "
    "be207095385d4ad70c49492f0f4891d909eaf58ac3289be41cf244192f4828d5\n"
    "pile_0.87_deduped_text_document.idx a659c5a57fa772fb6d3582c6e0b3a55c0c43b16ee8ea72ac6a70cebcdd35d669"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


# --- names and hash lists ---------------------------------------------------------------------------


def test_names_are_the_published_ones() -> None:
    assert shard_name("document", 0, 20) == "document-00000-of-00020.bin"  # EleutherAI/pile-standard-pythia-preshuffled
    names = [shard_name("pile_0.87_deduped_text_document", number, 82) for number in range(83)]
    assert names[-1] == "pile_0.87_deduped_text_document-00082-of-00082.bin"
    assert in_order(list(reversed(names))) == names


@pytest.mark.parametrize(
    ("numbers", "fact"),
    [
        ([0, 1, 3], r"d-00002-of-00003\.bin: missing; the numbers go from 0 to 3, and 3 of 4 shards are there"),
        ([1, 2, 3], r"d-00000-of-00003\.bin: missing"),
        ([0, 1, 2], r"d-00003-of-00003\.bin: missing"),  # n is the last number, not how many there are
        ([3], r"d-00000-of-00003\.bin, d-00001-of-00003\.bin, d-00002-of-00003\.bin: missing"),
        ([0, 1, 2, 3, 4], r"d-00004-of-00003\.bin: its number is beyond the last one, 3"),
    ],
)
def test_a_gap_in_the_numbers_is_named(numbers: list[int], fact: str) -> None:
    with pytest.raises(UserError, match=fact):
        in_order([shard_name("d", number, 3) for number in numbers])


def test_long_gaps_are_summed_up() -> None:
    with pytest.raises(UserError, match=r"d-00005-of-00082\.bin and 77 more: missing; .* 1 of 83 shards"):
        in_order([shard_name("d", 0, 82)])


@pytest.mark.parametrize(
    ("names", "fact"),
    [
        (["a-00000-of-00000.bin", "b-00000-of-00000.bin"], "several files at once"),
        (["a-00000-of-00001.bin", "a-00001-of-00001.bin", "a-00000-of-00000.bin"], "several files at once"),
        (["a-00000-of-00000.bin", "a.bin"], r"a\.bin: has no shard number"),
    ],
)
def test_names_of_several_files_are_refused(names: list[str], fact: str) -> None:
    with pytest.raises(UserError, match=fact):
        in_order(names)


def test_unnumbered_files_are_joined_by_name() -> None:
    assert in_order(["b.bin", "a.bin"]) == ["a.bin", "b.bin"]


def test_the_list_as_pythia_published_it_is_read() -> None:
    found = parse_hashes(PUBLISHED, "shard_hashes.txt")
    assert list(found) == [line.split()[0] for line in PUBLISHED.split("\n")]
    assert found["pile_0.87_deduped_text_document.idx"].startswith("a659c5a57fa772fb")


HEX = "ab" * 32


@pytest.mark.parametrize(
    "text",
    [f"{HEX}  a b.bin", f"{HEX} *a b.bin\n", f"# made by hand\r\n\r\n{HEX.upper()}  a b.bin\r\n"],
)
def test_lists_of_sha256sum_are_read(text: str) -> None:
    assert parse_hashes(text, "list") == {"a b.bin": HEX}


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (f"{HEX}  a\n{HEX[1:]}  b\n", "list:2: .* is no line of a hash list"),
        (f"{HEX}g  a", "no line of a hash list"),
        ("a.bin", "no line of a hash list"),
        (f"SHA256 (a) = {HEX}", "no line of a hash list"),
        (f"{HEX}  a\na {HEX}", "list:2: a stands in the list twice"),
        (f"{HEX}  /etc/passwd", "'/etc/passwd' leaves the folder"),
        (f"../a {HEX}", r"'\.\./a' leaves the folder"),
        (f"{HEX}  b/a", "'b/a' leaves the folder"),
        (f"{HEX}  b\\a", "leaves the folder"),
        (f"{HEX}  ..", "leaves the folder"),
        ("\n", "list: names no file"),
    ],
)
def test_damaged_lists_and_names_that_leave_the_folder_are_refused(text: str, fact: str) -> None:
    with pytest.raises(UserError, match=fact):
        parse_hashes(text, "list")


def test_a_list_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sums\.txt: no such hash list"):
        read_hashes(tmp_path / "sums.txt")
    (tmp_path / "sums.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"sums\.txt: not a text file"):
        read_hashes(tmp_path / "sums.txt")
    with pytest.raises(UserError, match="--sha256: 'abc' is not allowed\n  allowed: a sha256, 64 hex digits"):
        sha256_given("--sha256", "abc")


def test_lists_written_here_are_checked_by_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "a b").write_bytes(b"1")
    write_hashes(tmp_path / NAME, {"a b": sha256_file(tmp_path / "a b")})
    assert read_hashes(tmp_path / NAME) == {"a b": sha256_file(tmp_path / "a b")}
    subprocess.run(["sha256sum", "--check", "--strict", NAME], cwd=tmp_path, check=True, capture_output=True)


def test_lists_of_pythias_form_are_the_published_bytes(tmp_path: Path) -> None:
    write_pythia_hashes(tmp_path / PYTHIA_NAME, parse_hashes(PUBLISHED, "external"))
    assert (tmp_path / PYTHIA_NAME).read_text() == PUBLISHED


# --- cutting and joining ----------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(0, 40), max_size=12),
    vocabulary=st.sampled_from([50_277, 70_000]),
    most=st.integers(4, 90),
)
def test_what_is_cut_is_joined_to_the_same_bytes(
    sizes: list[int], vocabulary: int, most: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    ids = iter(np.random.default_rng(sum(sizes)).integers(0, vocabulary, sum(sizes)))
    write_tokens(folder / "my.tokens", [[next(ids) for _ in range(size)] for size in sizes], vocabulary)
    found = shard.shard(folder / "my.tokens", most, folder / "cut")
    itemsize = 2 if vocabulary == 50_277 else 4
    lengths = [path.stat().st_size for path in sorted((folder / "cut").glob("*.bin"))]
    step = most // itemsize * itemsize
    assert sum(lengths) == sum(sizes) * itemsize
    assert all(length == step for length in lengths[:-1]) and (lengths[-1] > 0 or not sum(sizes))
    assert read_hashes(folder / "cut" / NAME) == found
    assert {path.name for path in (folder / "cut").iterdir()} == {*found, NAME, PYTHIA_NAME}
    sharded = unshard.sharded_of(
        str(folder / "cut/*.bin"),
        folder / "cut/my.tokens.idx",
        folder / "cut" / NAME,
        sha256_file(folder / "my.tokens.bin"),
    )
    assert [piece.sha256 for piece in sharded.shards] == [found[piece.path.name] for piece in sharded.shards]
    with unsharded(sharded, folder / "again/other", vocabulary) as placed:
        assert placed.joined.bytes == sum(lengths)
    for part in (bin_path, idx_path):
        assert part(folder / "again/other").read_bytes() == part(folder / "my.tokens").read_bytes()


@pytest.mark.parametrize(
    ("total", "most", "cuts"),
    [
        (10, 4, [(0, 4), (4, 4), (8, 2)]),
        (8, 4, [(0, 4), (4, 4)]),  # Pythia's own tool adds an empty shard here
        (8, 5, [(0, 4), (4, 4)]),  # borders fall on whole tokens
        (0, 4, [(0, 0)]),
        (414_340_828_116, 5 * 10**9, None),  # the deduplicated Pile: 83 shards, the last of 4,340,828,116 bytes
    ],
)
def test_where_a_file_is_cut(total: int, most: int, cuts: list[tuple[int, int]] | None) -> None:
    found = shard.spans(total, most, 2)
    if cuts is None:
        assert len(found) == 83 and found[-1] == (82 * most, 4_340_828_116)
    else:
        assert found == cuts


def test_cuts_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match="--shard-bytes: 3 bytes don't hold a token of 4"):
        shard.spans(8, 3, 4)
    with pytest.raises(UserError, match="--shard-bytes: 2 makes 100001 shards"):
        shard.spans(200_002, 2, 2)


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """Three documents of ten, none and twenty tokens."""
    write_tokens(tmp_path / "document", [range(10), [], range(100, 120)], 50_277)
    return tmp_path / "document"


def test_a_killed_cut_keeps_the_right_shards(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = prefix.parent / "whole", prefix.parent / "cut"
    shard.shard(prefix, 20, whole)
    cut.mkdir()
    shutil.copy2(whole / "document-00001-of-00002.bin", cut)
    (cut / ".document-00002-of-00002.bin.12345.tmp").write_bytes(b"torn")
    kept = (cut / "document-00001-of-00002.bin").stat().st_mtime_ns
    shard.shard(prefix, 20, cut)
    assert (cut / "document-00001-of-00002.bin").stat().st_mtime_ns == kept
    assert {path.name: path.read_bytes() for path in cut.iterdir()} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }


def test_other_files_in_the_way_of_a_cut_are_kept(prefix: Path) -> None:
    cut = prefix.parent / "cut"
    shard.shard(prefix, 20, cut)
    with pytest.raises(UserError, match=r"document-00000-of-00002\.bin: a shard of another cut of document"):
        shard.shard(prefix, 30, cut)
    (cut / "document-00001-of-00002.bin").write_bytes(b"other")
    with pytest.raises(UserError, match=r"document-00001-of-00002\.bin: is there already with other bytes"):
        shard.shard(prefix, 20, cut)
    assert (cut / "document-00001-of-00002.bin").read_bytes() == b"other"


def published(prefix: Path, most: int = 20) -> Sharded:
    """The file cut into shards, with the hashes in the list."""
    cut = prefix.parent / "cut"
    shard.shard(prefix, most, cut)
    return unshard.sharded_of(str(cut / "*.bin"), cut / "document.idx", cut / NAME, None)


def refused(sharded: Sharded, fact: str) -> None:
    out = sharded.index.path.parent.parent / "out/document"
    with pytest.raises(UserError, match=fact), unsharded(sharded, out):
        pytest.fail("was joined")
    assert not bin_path(out).exists() and not idx_path(out).exists()


def test_a_truncated_shard_is_named_by_the_index(prefix: Path) -> None:
    sharded = published(prefix)
    path = sharded.shards[1].path
    path.write_bytes(path.read_bytes()[:-4])
    refused(sharded, r"document-00001-of-00002\.bin: 16 bytes; all 3 shards have 56, but .*idx counts 30 tokens")


def test_an_index_with_another_hash_is_named_before_anything_is_joined(prefix: Path) -> None:
    sharded = published(prefix)
    content = bytearray(sharded.index.path.read_bytes())
    content[-8] += 1
    sharded.index.path.write_bytes(content)
    refused(sharded, r"document\.idx: sha256 .*\n  expected: ")
    assert not (prefix.parent / "out").exists()


def test_an_index_that_contradicts_itself_is_refused_after_the_join(prefix: Path) -> None:
    sharded = published(prefix)
    content = bytearray(sharded.index.path.read_bytes())
    content[34] += 1  # the first document's size; header and last sequence stay right
    sharded.index.path.write_bytes(content)
    refused(Sharded(sharded.shards, type(sharded.index)(sharded.index.path)), "pointer 1 is 20")


def test_totals_of_an_index_are_those_of_the_tokens(prefix: Path) -> None:
    assert index_totals(idx_path(prefix)) == (np.dtype("<u2"), 30)
    write_tokens(prefix, [], 70_000)
    assert index_totals(idx_path(prefix)) == (np.dtype("<i4"), 0)


# --- the commands -----------------------------------------------------------------------------------


def command(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    asked = [forks.python(), "-m", "scripts.data", name, *map(str, arguments)]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_commands_go_there_and_back(prefix: Path) -> None:
    cut, out = prefix.parent / "cut", prefix.parent / "out/again"
    done = command("shard", "--tokens", prefix, "--shard-bytes", 20, "--out", cut)
    assert (done.returncode, done.stdout) == (0, f"{cut}: 3 shards, the index, sha256sum.txt and shard_hashes.txt\n"), (
        done.stderr
    )
    asked = ["--shards", cut / "document-*-of-*.bin", "--index", cut / "document.idx", "--out", out]
    checked = ["--hashes", cut / NAME, "--sha256", sha256_file(bin_path(prefix)).upper(), "--vocabulary", 50_304]
    done = command("unshard", *asked, *checked)
    assert done.returncode == 0, done.stderr
    assert "60 bytes of 3 shards, 3 sequences, largest token 119, 1 of token 0" in done.stdout
    assert [open_tokens(out)[n].tolist() for n in range(3)] == [[*range(10)], [], [*range(100, 120)]]
    again = command("unshard", *asked)
    assert again.returncode == 2 and "again.bin: is there already and is not overwritten" in again.stderr


def test_the_list_must_name_every_shard_and_the_glob_must_match(prefix: Path) -> None:
    sharded = published(prefix)
    cut = sharded.index.path.parent
    lines = (cut / NAME).read_text().splitlines()
    (cut / NAME).write_text("\n".join(lines[1:]))
    with pytest.raises(UserError, match=r"sha256sum\.txt: has no hash of document-00000-of-00002\.bin"):
        unshard.sharded_of(str(cut / "*.bin"), cut / "document.idx", cut / NAME, None)
    with pytest.raises(UserError, match="--shards: no file matches"):
        unshard.sharded_of(str(cut / "*.bim"), cut / "document.idx", None, None)
    shutil.copytree(cut, cut.parent / "cut2")
    with pytest.raises(UserError, match=r"matches document-0000\d-of-00002\.bin in more than one folder"):
        unshard.sharded_of(str(cut.parent / "cut*/*.bin"), cut / "document.idx", None, None)
    (cut / "document-00001-of-00002.bin").unlink()
    with pytest.raises(UserError, match=r"document-00001-of-00002\.bin: missing"):
        unshard.sharded_of(str(cut / "*.bin"), cut / "document.idx", None, None)


def test_lanes_tell_what_a_lane_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345678")

    def fails(block: memoryview) -> None:
        raise UserError("seen")

    with (
        pytest.raises(UserError, match="seen"),
        joined.Lanes(1) as used,
        (tmp_path / "file").open("rb", buffering=0) as file,
    ):
        for block in used.blocks(file, tmp_path / "file", 8):
            used.give(block, fails)
        used.drain()
