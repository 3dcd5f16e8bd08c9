"""Second stage of deduplication: pairs of documents that share a band, of one group of bands: data/pairs/group-<n>/."""

from __future__ import annotations

import time
from collections import Counter

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.durable import made
from scripts.common.errors import UserError
from scripts.common.files import read_json
from scripts.data.dedup import signatures
from scripts.data.dedup.minhash import Hashing, write_pairs
from scripts.study import fingerprints, paths
from scripts.study.manifests import PairsFacts
from scripts.study.study import load


def main() -> None:
    parser = Parser(
        description="Find the pairs of documents whose signatures agree in one of a group of bands. "
        "There are as many groups as runtime.data_parts; group g has every so many-th band from g on."
    ).takes("study")
    parser.add_argument("--group", type=int, default=0, help="which group of bands (default: 0)")
    arguments = parser.parse_args()
    started = time.time()
    study = load(arguments.study)
    groups, hashing = study.part_count, Hashing.of(study.file.data.deduplication)
    if not 0 <= arguments.group < groups:
        raise UserError(f"--group: there are groups 0 to {groups - 1}")
    fingerprints.require(study, *(block.folder for block in study.blocks()))
    parts = [paths.signatures(part) for part in range(groups)]
    too_short = Counter[str]()
    for part in parts:
        if not part.is_dir():
            raise UserError(f"{part}: no such folder; the job that writes it has not finished")
        manifest.same_settings(part, read_json(part / signatures.SETTINGS), study.hashing_settings())
        too_short.update(read_json(part / signatures.TOO_SHORT))
    folder = paths.pairs(arguments.group)
    bands = range(arguments.group, hashing.bands, groups)
    with made(folder) as draft:
        write_pairs(parts, draft, bands, hashing)
        manifest.write(
            draft,
            PairsFacts(list(bands), dict(sorted(too_short.items()))),
            subject={"group": arguments.group},
            settings=study.hashing_settings(),
            files=sorted(draft.glob("*.dups")),
            parents=[block.folder for block in study.blocks()],
            started=started,
        )
    print(f"{folder}: pairs of bands {', '.join(map(str, bands)) or 'none'}")
