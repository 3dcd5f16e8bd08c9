"""What must hold before the first job: folder writable, disk large enough, files there, tasks known."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from scripts.common import manifest
from scripts.common.errors import UserError, run
from scripts.common.files import digest_of, read_json, sha256_file, write_json
from scripts.study.study import Study, load, parse

MARGIN = 1.2  # headroom on the disk estimate


def bytes_needed(study: Study) -> int:
    """Bytes the whole study keeps: fp32 weights twice (native, Transformers), 12 a parameter of optimizer state."""
    total = 0
    for name, spec in study.runs.items():
        parameters = spec.size.parameters(study.padded_vocabulary(name))
        weights = 4 if spec.training.precision == "fp32" else 2
        rolling = 1
        total += parameters * 2 * weights * len(study.steps(name))
        total += parameters * 12 * (len(study.optimizer_steps(name)) + rolling)
    return total


def bytes_there(root: Path) -> int:
    """Bytes of checkpoints and models already made, which the estimate need not count again."""
    files = (path for folder in ("checkpoints", "models") for path in (root / folder).rglob("*"))
    seen: dict[int, int] = {}
    for path in files:
        status = path.lstat()
        seen[status.st_ino] = status.st_size  # a hard link counts once
    return sum(seen.values())


def check_room(study: Study, root: Path, free: int) -> None:
    """Refuse a study whose estimate exceeds the free bytes."""
    missing = int(MARGIN * bytes_needed(study)) - bytes_there(root)
    if missing > free:
        raise UserError(
            f"{root.resolve()}: about {missing / 1e9:.1f} GB will be written, {free / 1e9:.1f} GB are free\n"
            "  write:   fewer sizes, seeds or checkpoints, or a --directory on a larger disk"
        )


def check_writable(root: Path) -> None:
    """Refuse an output folder that can't be written to."""
    for folder in (root, *(root / name for name in ("data", "checkpoints", "models", "results"))):
        if folder.exists() and not os.access(folder, os.W_OK):
            raise UserError(f"{folder.resolve()}: not writable\n  write:   --directory with a folder you own")


def check_files(study: Study, root: Path) -> None:
    """Refuse components and tokenizers whose files are missing or, where a hash is given, others."""
    data = study.file.data
    for name, component in data.components.items():
        key = f"data.components.{name}.files"
        for pattern in component.files or []:
            found = sorted(root.glob(pattern)) if not Path(pattern).is_absolute() else [Path(pattern)]
            if not any(path.exists() for path in found):
                raise UserError(f"{key}: no file matches {pattern!r} below {root.resolve()}")
            if component.sha256:
                check_hash(key, found[0], component.sha256)
    if data.tokenizer.file:
        path = root / data.tokenizer.file
        if not path.exists():
            raise UserError(f"data.tokenizer.file: {path} does not exist")
        if data.tokenizer.sha256:
            check_hash("data.tokenizer.file", path, data.tokenizer.sha256)


def check_hash(key: str, path: Path, expected: str) -> None:
    """Refuse a file with another sha256."""
    if (found := sha256_file(path)) != expected:
        raise UserError(f"{key}: {path} has sha256 {found}\n  allowed: {expected}")


def check_checkpoints(study: Study, root: Path) -> None:
    """Refuse checkpoint folders of another science config, all at once, with what differs."""
    refusals = []
    for name in study.runs:
        folder = root / "checkpoints" / name
        found = sorted(folder.glob(f"global_step*/{manifest.NAME}"))
        if not found:
            continue
        there = {key: value for key, value in read_json(found[0])["science"].items() if key != "parents"}
        asked = study.train_science(name)
        if digest_of(there) != digest_of(asked):
            lines = "\n  ".join(manifest.differing(there, asked))
            refusals.append(f"{folder} holds checkpoints of another science config:\n  {lines}")
    if refusals:
        folders = " ".join(
            f"checkpoints/{name}" for name in study.runs if f"checkpoints/{name} " in "\n".join(refusals)
        )
        raise UserError("\n".join(refusals) + f"\nkeep them under another name, or drop them: rm -r {folders}")


def check_all(study: Study, root: Path) -> None:
    """Every check; raises UserError at the first that fails."""
    from scripts.evaluate.names import check_tasks

    check_tasks([task for tasks in study.file.evaluation.task_sets.values() for task in tasks.tasks])
    check_writable(root)
    check_files(study, root)
    check_checkpoints(study, root)
    check_room(study, root, shutil.disk_usage(root).free)


def begin(study_file: str, config: dict[str, Any]) -> None:
    """The workflow's start: check everything, then hand the study to the jobs as one file."""
    study = parse(config)
    try:
        check_all(study, Path())
    except UserError as error:
        sys.exit(f"refused before the first job:\n{error}")
    path, content = Path(study_file), study.file.model_dump()
    if not path.exists() or read_json(path) != content:
        write_json(path, content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, default=Path("config.yaml"), help="study file (default: config.yaml)")
    arguments = parser.parse_args()
    study = load(arguments.study)
    check_all(study, Path())
    steps = sum(len(study.steps(name)) for name in study.runs)
    print(f"{arguments.study}: {len(study.runs)} runs, {steps} checkpoints, {bytes_needed(study) / 1e9:.1f} GB at most")


if __name__ == "__main__":
    run(main)
