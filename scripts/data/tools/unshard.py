"""Join published shards of a token file and check every hash there is; no study needed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from scripts.common.command import Parser
from scripts.common.errors import UserError, explain
from scripts.data.megatron.indexed import bin_path, idx_path
from scripts.data.megatron.joined import Piece
from scripts.data.megatron.shards import Sharded, in_order, read_hashes, sha256_given, unsharded, with_hashes
from scripts.study.texts import matching


def sharded_of(pattern: str, index: Path, hashes: Path | None, sha256: str | None) -> Sharded:
    """The shards that fit a glob, in order, and their index; raises UserError if one is missing or has no hash."""
    paths = {path.name: path for path in matching(pattern)}
    if not paths:
        raise UserError(f"--shards: no file matches {pattern!r} (seen from {Path.cwd()})")
    if len(paths) != len(matching(pattern)):
        twice = Counter(path.name for path in matching(pattern)).most_common(1)[0][0]
        raise UserError(f"--shards: {pattern!r} matches {twice} in more than one folder; name one folder")
    shards, whole = [Piece(paths[name]) for name in in_order(list(paths))], Piece(index)
    if hashes is not None:
        listed = read_hashes(hashes)
        shards = with_hashes(shards, listed, str(hashes))
        whole = Piece(index, listed.get(index.name))
    return Sharded(shards, whole, sha256)


def check_free(prefix: Path) -> None:
    """Refuse to put a token file where one is, unless it is our own unfinished work."""
    for path in (bin_path(prefix), idx_path(prefix)):
        if path.exists() and not prefix.with_name(f".{prefix.name}.bin.work").exists():
            raise UserError(f"{path}: is there already and is not overwritten; choose another --out, or delete it")


def main() -> None:
    parser = Parser(
        description="Join shards to OUT.bin and OUT.idx in one pass that checks the hash of every shard in the list, "
        "that no shard is missing, that the index fits, and the hash of the whole. A killed run goes on from where "
        "it was; what is finished appears at once."
    )
    parser.add_argument("--shards", required=True, help="glob of the shards, in quotes: 'DIR/document-*-of-*.bin'")
    parser.add_argument("--index", type=Path, required=True, help="their .idx")
    parser.add_argument("--hashes", type=Path, help="hash list that names every shard (format of sha256sum)")
    parser.add_argument("--sha256", help="expected hash of the joined .bin")
    parser.add_argument("--vocabulary", type=int, help="refuse token ids from this on (Pythia: 50304)")
    parser.add_argument("--out", type=Path, required=True, help="path of the joined files without .bin and .idx")
    arguments = parser.parse_args()
    sha256 = None if arguments.sha256 is None else sha256_given("--sha256", arguments.sha256)
    if arguments.vocabulary is not None and arguments.vocabulary < 1:
        raise UserError(explain("--vocabulary", arguments.vocabulary, "1 or more"))
    sharded = sharded_of(arguments.shards, arguments.index, arguments.hashes, sha256)
    check_free(arguments.out)
    with unsharded(sharded, arguments.out, arguments.vocabulary) as placed:
        seen, count = placed.joined, len(placed.tokens)
    print(
        f"{bin_path(arguments.out)}: {seen.bytes} bytes of {len(sharded.shards)} shards, {count} sequences, "
        f"largest token {seen.largest_token}, {seen.zeros} of token 0\nsha256 {seen.sha256}"
    )
