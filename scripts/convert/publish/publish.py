"""Publish the models of runs as revisions step<N>, and the last as main: into a hub cache, a folder or the hub itself.

From a cache, `from_pretrained("<owner>/<run>", revision="step3000", cache_dir=..)` works offline. Before anything is
written every file is hashed and held against its manifest, every model against its native checkpoint, and all steps
against each other. Made again, a publication goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from scripts.common.command import Parser
from scripts.common.errors import UserError, explain
from scripts.convert.publish.local import named, to_cache, to_folder
from scripts.convert.publish.revisions import Revision, revisions
from scripts.study import paths
from scripts.study.study import Study, load

OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,94}")


def publish(study: Study, name: str, given: argparse.Namespace) -> str:
    """Publish one run; where it is now. Raises UserError if it must not be."""
    steps = sorted(set(given.steps or study.steps(name)))
    wanted = named(revisions(name, steps, paths.card(name)), study.steps(name)[-1])
    repo = f"{given.owner}/{name}"
    if given.to == "cache":
        return str(to_cache(given.out, repo, wanted, given.replace))
    if given.to == "folder":
        return str(to_folder(given.out, repo, wanted, given.replace))
    return _to_hub(repo, wanted, given)


def _to_hub(repo: str, wanted: dict[str, Revision], given: argparse.Namespace) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    from scripts.convert.publish.hub import to_hub

    try:
        return to_hub(HfApi(), repo, wanted, given.replace, given.private)
    except (OSError, HTTPError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
    raise UserError(
        f"{repo}: the hub could not be written to\n  because: {reason}\n  what is there whole is kept; run it again"
    )


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--study", type=Path, default=paths.STUDY, help="default: results/study.json")
    parser.add_argument("--run", nargs="+", help="names of runs (default: all of the study)")
    parser.add_argument("--steps", type=int, nargs="+", help="saved steps (default: all)")
    parser.add_argument("--to", choices=("cache", "folder", "hub"), required=True)
    parser.add_argument("--out", type=Path, help="the cache_dir, or the folder; not for the hub")
    parser.add_argument("--owner", required=True, help="user or organization that stands before the run's name")
    parser.add_argument("--replace", action="store_true", help="put other content under revisions that exist")
    parser.add_argument("--private", action="store_true", help="make the hub's repository a private one")
    given = parser.parse_args()
    if not OWNER.fullmatch(given.owner):
        raise UserError(explain("--owner", given.owner, "letters, digits, single . and - and _"))
    if (given.out is None) != (given.to == "hub"):
        raise UserError(
            f"--out: {'belongs to cache and folder' if given.out else 'is needed'}\n  write:   --out <folder>"
        )
    study = load(given.study)
    names = given.run or list(study.runs)
    for name in names:
        study.check_steps(name, given.steps or [])
    for name in names:
        print(publish(study, name, given))
