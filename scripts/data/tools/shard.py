"""Cut a token file into shards with a hash list, named as Pythia's are published; the reverse of unshard."""

from __future__ import annotations

import glob
import hashlib
from pathlib import Path

from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.lock import hold
from scripts.common.progress import progress
from scripts.data.megatron import shards
from scripts.data.megatron.indexed import bin_path, idx_path, open_tokens
from scripts.data.megatron.joined import BLOCK, MEGABYTE, copied
from scripts.data.megatron.shards import MOST, NUMBERED, shard_name


def spans(total: int, most: int, itemsize: int) -> list[tuple[int, int]]:
    """(begin, bytes) of each shard of a file of `total` bytes: whole tokens, at most `most` bytes, none empty.

    A file without tokens has one shard. Raises UserError if a token does not fit, or there are too many shards.
    """
    step = most // itemsize * itemsize
    if step <= 0:
        raise UserError(f"--shard-bytes: {most} bytes don't hold a token of {itemsize}")
    count = max(1, -(-total // step))
    if count > MOST:
        raise UserError(f"--shard-bytes: {most} makes {count} shards; five digits number {MOST} at most")
    return [(begin, min(step, total - begin)) for begin in range(0, total, step)] or [(0, 0)]


def same_bytes(path: Path, source: Path, begin: int, count: int) -> str | None:
    """Hex sha256 of a file if it equals bytes [begin, begin + count) of the source, else None."""
    if path.stat().st_size != count:
        return None
    digest = hashlib.sha256()
    with path.open("rb") as mine, source.open("rb") as theirs:
        theirs.seek(begin)
        for left in range(count, 0, -BLOCK):
            block = mine.read(min(BLOCK, left))
            if block != theirs.read(len(block)):
                return None
            digest.update(block)
    return digest.hexdigest()


def place(source: Path, target: Path, begin: int, count: int) -> str:
    """Make `target` those bytes of the source, or keep it if it is; returns its hex sha256."""
    if not target.exists():
        return copied(source, target, begin, count)
    if (same := same_bytes(target, source, begin, count)) is None:
        raise UserError(f"{target}: is there already with other bytes; choose another --out, or delete it")
    return same


def shard(prefix: Path, most: int, out: Path) -> dict[str, str]:
    """Write the shards of `<prefix>.bin`, its .idx and both lists of hashes into `out`; returns hashes by name.

    Files that are there already and are right, from a run that was killed, are kept. Raises UserError for a file
    that is in the way.
    """
    tokens = open_tokens(prefix, thorough=True)
    total = bin_path(prefix).stat().st_size
    cuts = spans(total, most, tokens.flat.dtype.itemsize)
    names = [shard_name(prefix.name, number, len(cuts) - 1) for number in range(len(cuts))]
    found: dict[str, str] = {}
    whole = -(-total // MEGABYTE)
    with hold(out), progress(f"shard {prefix.name}", whole, "MB") as tell:
        matches = {path.name: NUMBERED.fullmatch(path.name) for path in out.iterdir()}
        others = sorted(name for name, match in matches.items() if match and match["base"] == prefix.name)
        if strange := [name for name in others if name not in names]:
            raise UserError(f"{out / strange[0]}: a shard of another cut of {prefix.name}; choose another --out")
        for left in out.glob(f".{glob.escape(prefix.name)}*.tmp"):  # of a run that was killed
            left.unlink()
        for name, (begin, count) in zip(names, cuts, strict=True):
            found[name] = place(bin_path(prefix), out / name, begin, count)
            tell(min((begin + count) // MEGABYTE, whole - 1))
        index = idx_path(prefix)
        found[index.name] = place(index, out / index.name, 0, index.stat().st_size)
        tell(whole)
        shards.write_hashes(out / shards.NAME, found)
        shards.write_pythia_hashes(out / shards.PYTHIA_NAME, found)
    return found


def main() -> None:
    parser = Parser(
        description="Cut PREFIX.bin into shards of whole tokens, copy PREFIX.idx and write sha256sum.txt and "
        "shard_hashes.txt (Pythia's form) over all of them. The number after -of- is the last shard's. Right shards of "
        "a killed run are kept."
    )
    parser.add_argument("--tokens", type=Path, required=True, help="path of the token file without .bin and .idx")
    parser.add_argument("--shard-bytes", type=int, default=5 * 10**9, help="most bytes a shard (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    arguments = parser.parse_args()
    found = shard(arguments.tokens, arguments.shard_bytes, arguments.out)
    print(f"{arguments.out}: {len(found) - 1} shards, the index, {shards.NAME} and {shards.PYTHIA_NAME}")
