"""Shards of a token file: their names, their order, whether all are there, and what is known of each, lists of sha256
sums among it: the format of the sha256sum command, and the bare table of Pythia."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scripts.common.errors import UserError, explain
from scripts.common.files import sha256_file, write_text
from scripts.data.megatron.indexed import HEADER, Tokens, idx_path, open_tokens, read_header
from scripts.data.megatron.joined import Joined, Piece, check_pieces, copied, joined

NUMBERED = re.compile(r"(?P<base>.+)-(?P<number>\d{5})-of-(?P<last>\d{5})\.bin")
MOST = 10**5  # shards that five digits can number


def shard_name(base: str, number: int, last: int) -> str:
    """Name of a shard as Pythia's are published: numbers from 0, and `last` is the last one, not how many there are."""
    return f"{base}-{number:05}-of-{last:05}.bin"


def in_order(names: Sequence[str]) -> list[str]:
    """The names in the order in which the shards are joined, which is that of the names.

    Raises UserError for numbered shards of which one is missing, or that are of several files.
    """
    matches = {name: NUMBERED.fullmatch(name) for name in names}
    numbered = {name: match for name, match in matches.items() if match}
    if not numbered:
        return sorted(names)
    if plain := sorted(set(names) - set(numbered)):
        raise UserError(f"{plain[0]}: has no shard number, but {min(numbered)} has; name the shards only")
    sets = sorted({(match["base"], match["last"]) for match in numbered.values()})
    if len(sets) > 1:
        examples = ", ".join(shard_name(base, 0, int(last)) for base, last in sets)
        raise UserError(f"shards of several files at once ({examples}, …); name those of one")
    (base, last), there = sets[0], {int(match["number"]) for match in numbered.values()}
    missing = sorted(set(range(int(last) + 1)) - there)
    if missing:
        named = ", ".join(shard_name(base, number, int(last)) for number in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise UserError(
            f"{named}{more}: missing; the numbers go from 0 to {int(last)}, and {len(there)} of {int(last) + 1} shards "
            "are there"
        )
    if beyond := sorted(number for number in there if number > int(last)):
        raise UserError(f"{shard_name(base, beyond[0], int(last))}: its number is beyond the last one, {int(last)}")
    return sorted(names)


def with_hashes(pieces: Sequence[Piece], hashes: Mapping[str, str], source: str) -> list[Piece]:
    """The pieces with their hash by file name; raises UserError for one that the list does not name."""
    if unknown := [piece.path.name for piece in pieces if piece.path.name not in hashes]:
        raise UserError(
            f"{source}: has no hash of {unknown[0]}" + (f" and {len(unknown) - 1} more" * (len(unknown) > 1))
        )
    return [replace(piece, sha256=hashes[piece.path.name]) for piece in pieces]


@dataclass(frozen=True)
class Sharded:
    """A token file in shards, in order, and its .idx; `sha256` is that of the joined .bin, if known."""

    shards: list[Piece]
    index: Piece
    sha256: str | None = None


def index_totals(index: Path) -> tuple[np.dtype, int]:
    """Token dtype and number of tokens that an .idx tells, by its header and its last sequence."""
    dtype, count, _ = read_header(index)
    if not count:
        return dtype, 0
    with index.open("rb") as handle:
        handle.seek(HEADER.size + 4 * (count - 1))
        size = int(np.frombuffer(handle.read(4), "<i4")[0])
        handle.seek(HEADER.size + 4 * count + 8 * (count - 1))
        return dtype, int(np.frombuffer(handle.read(8), "<i8")[0]) // dtype.itemsize + size


def check(sharded: Sharded) -> np.dtype:
    """Token dtype; raises UserError, before anything is joined, if index and shards can't belong together."""
    index = sharded.index
    check_pieces([index], 1)
    dtype, tokens = index_totals(index.path)
    if index.sha256 is not None and (found := sha256_file(index.path)) != index.sha256:
        raise UserError(f"{index.path}: sha256 {found}\n  expected: {index.sha256}\n  get it again")
    sizes = check_pieces(sharded.shards, dtype.itemsize)
    if sum(sizes) != tokens * dtype.itemsize:
        usual = Counter(sizes).most_common(1)[0][0]
        odd = next((n for n, size in enumerate(sizes[:-1]) if size != usual), len(sizes) - 1)
        raise UserError(
            f"{sharded.shards[odd].path}: {sizes[odd]} bytes; all {len(sizes)} shards have {sum(sizes)}, but "
            f"{index.path} counts {tokens} tokens of {dtype.itemsize} bytes, {tokens * dtype.itemsize} in all"
        )
    return dtype


@dataclass(frozen=True)
class Placed:
    """A joined token file in its draft folder, checked: what the pass saw, the tokens, and the hash of its .idx."""

    draft: Path
    joined: Joined
    tokens: Tokens
    index_sha256: str


@contextmanager
def unsharded(sharded: Sharded, prefix: Path, limit: int | None = None) -> Iterator[Placed]:
    """Join the shards to `<prefix>.bin` with its `<prefix>.idx`; the way and the refusals of `join.joined`."""
    dtype = check(sharded)
    with joined(
        sharded.shards, prefix.parent, f"{prefix.name}.bin", dtype=dtype, limit=limit, sha256=sharded.sha256
    ) as (draft, result):
        index_sha256 = copied(sharded.index.path, idx_path(draft / prefix.name))
        yield Placed(draft, result, open_tokens(draft / prefix.name, thorough=True), index_sha256)


NAME = "sha256sum.txt"
PYTHIA_NAME = "shard_hashes.txt"
SUM_FIRST = re.compile(r"(?P<sum>[0-9a-fA-F]{64}) [ *](?P<name>.+)")  # sha256sum; " *": hashed as binary
NAME_FIRST = re.compile(r"(?P<name>\S+)[ \t]+(?P<sum>[0-9a-fA-F]{64})")  # EleutherAI/pythia utils/shard_hashes.txt


def sha256_given(key: str, text: str) -> str:
    """A hash typed by hand, in lower case; raises UserError unless it is one."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise UserError(explain(key, text, "a sha256, 64 hex digits"))
    return text.lower()


def own_name(name: str) -> bool:
    """Whether a name names a file of the folder itself: no separator, no absolute path, no way up."""
    return name not in ("", ".", "..") and not set("/\\\0") & set(name)


def parse_hashes(text: str, source: str) -> dict[str, str]:
    """Hex sha256 in lower case by file name; empty lines and lines that begin with # are skipped.

    Raises UserError that names `source` and the line: no known form, a name twice, a name that leaves the folder.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = SUM_FIRST.fullmatch(line.rstrip()) or NAME_FIRST.fullmatch(line.strip())
        if match is None:
            raise UserError(
                f"{source}:{number}: {line[:100]!r} is no line of a hash list\n"
                "  allowed: 64 hex digits, two spaces, file name (as sha256sum writes); or file name, space, digits"
            )
        name = match["name"]
        if not own_name(name):
            raise UserError(
                f"{source}:{number}: {name!r} leaves the folder of the list; only plain file names are read"
            )
        if name in found:
            raise UserError(f"{source}:{number}: {name} stands in the list twice")
        found[name] = match["sum"].lower()
    if not found:
        raise UserError(f"{source}: names no file")
    return found


def read_hashes(path: Path) -> dict[str, str]:
    """The hashes of a list on disk; raises UserError as `parse_hashes` does, or if it can't be read as text."""
    try:
        return parse_hashes(path.read_text(encoding="utf-8"), str(path))
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: no such hash list") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file ({error})") from None


def write_hashes(path: Path, hashes: Mapping[str, str]) -> None:
    """Write a list that `sha256sum --check` reads, atomically, in the given order."""
    write_text(path, "".join(f"{digest}  {name}\n" for name, digest in hashes.items()))


def write_pythia_hashes(path: Path, hashes: Mapping[str, str]) -> None:
    """Write a list as Pythia's `utils/checksum_shards.py` reads it: name, space, sha256; no line end after the last."""
    write_text(path, "\n".join(f"{name} {digest}" for name, digest in hashes.items()))
