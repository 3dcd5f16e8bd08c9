"""What must hold before the first job: folder writable, disk large enough, files there, tasks known."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from scripts.analyze.external import scores as published
from scripts.common.command import Parser
from scripts.common.environment import cuda_devices
from scripts.common.errors import UserError, explain
from scripts.common.files import read_json, write_json
from scripts.common.units import bytes_short
from scripts.evaluate.names import WITH_EXAMPLES
from scripts.operate.trained import check_orders, check_shared, check_training
from scripts.study import paths
from scripts.study.config.data import External
from scripts.study.recordings import RunRecording
from scripts.study.resources import check_compiler, placement
from scripts.study.runs import native_folder
from scripts.study.storage import all_kept, bytes_needed
from scripts.study.study import Study, load
from scripts.study.texts import check_braces, files_of, within

MARGIN = 1.2  # headroom on the disk estimate


def free_bytes(place: Path) -> int:
    """Bytes free on the disk of a folder."""
    return shutil.disk_usage(place).free


def bytes_there(folder: Path) -> int:
    """Bytes of files already made below a folder, which the estimate need not count again."""
    seen: dict[int, int] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        seen[status.st_ino] = status.st_size  # a hard link counts once
    return sum(seen.values())


def check_room(study: Study, root: Path, free: Callable[[Path], int] = free_bytes) -> None:
    """Refuse a study whose estimate exceeds the free bytes of a disk; `checkpoints` or `models` may lie on another."""
    kept = all_kept(study)
    needed = {"models": kept.models, "exports": kept.exports}
    needed["checkpoints"] = kept.peak - sum(needed.values())
    if recordings := study.recordings():
        needed["recordings"] = sum(recording.bytes() for recording in recordings)
    disks: dict[int, list[str]] = {}
    for name in sorted(needed):
        place = root / name if (root / name).exists() else root
        disks.setdefault(place.stat().st_dev, []).append(name)
    for names in disks.values():
        folders = [root / name for name in names]
        missing = sum(int(MARGIN * needed[name]) for name in names) - sum(map(bytes_there, folders))
        place = next((folder for folder in folders if folder.exists()), root)
        if missing > (room := free(place)):
            raise UserError(
                f"{root.resolve()}: about {missing / 1e9:.1f} GB will be written to {', '.join(names)}, "
                f"{room / 1e9:.1f} GB are free there\n"
                "  write:   fewer sizes, seeds or checkpoints, or a --directory, or a link in it, on a larger disk"
                + _of_recordings(recordings if "recordings" in names else [])
            )


def _of_recordings(recordings: list[RunRecording]) -> str:
    """What the largest recording takes, if there is one."""
    if not recordings:
        return ""
    largest = max(recordings, key=RunRecording.bytes)
    takes = f"{bytes_short(largest.bytes())} for {largest.run.name}"
    return f"\n  {largest.key} takes {takes}: fewer steps or layers there, or reduce: norm"


def check_writable(root: Path) -> None:
    """Refuse an output folder that can't be written to."""
    for folder in (root, *(root / folder for folder in paths.FOLDERS)):
        if folder.is_symlink() and not folder.exists():
            raise UserError(
                f"{folder}: a link to {folder.readlink()}, which is not there; mount it, or remove the link"
            )
        if folder.exists() and not os.access(folder, os.W_OK):
            raise UserError(f"{folder.resolve()}: not writable\n  write:   --directory with a folder you own")


def check_files(study: Study) -> None:
    """Refuse components and tokenizers whose files are missing, no tokenizer or, where a hash is given, others."""
    from scripts.data import tokenizer

    for name, component in study.file.data.components.items():
        files_of(name, component)
    for name, corpus in study.file.data.corpora.items():
        if corpus.external:
            check_external(f"data.corpora.{name}.external", corpus.external)
    wanted = study.file.data.tokenizer
    check_braces("data.tokenizer.file", [wanted.file or ""])
    tokenizer.check(wanted)


def check_parents(study: Study) -> None:
    """Refuse other people's checkpoints that are not there, or whose NeoX configuration is of another model."""
    from scripts.neox.neox_yaml import read_beside, refuse_another

    for spec in study.runs.values():
        if (origin := spec.origin) and origin.folder:
            folder = native_folder(spec)
            try:
                refuse_another(spec.size, read_beside(folder, Path(origin.folder)).said, str(folder))
            except UserError as error:
                raise UserError(f"{origin.key}: {error}") from None


def check_published_runs(study: Study) -> None:
    """Refuse folders of published models that are not there, and steps that are missing in them, all at once."""
    missing = []
    for name, spec in study.external.items():
        wanted = spec.external
        if wanted is None or wanted.folder is None:
            continue
        folders = {step: Path(wanted.folder) / wanted.revision_of(step) for step in wanted.steps}
        missing += [f"external.{name}: step {step}: no folder {path}" for step, path in folders.items()
                    if not path.is_dir()]  # fmt: skip
    if missing:
        raise UserError("\n".join([*missing, f"(seen from {Path.cwd()})"]))


def check_external(key: str, wanted: External) -> None:
    """Refuse published tokens on disk whose folder, shards, index or hash list is not there."""
    if wanted.folder:
        folder = Path(wanted.folder)
        if not folder.is_dir():
            raise UserError(f"{key}.folder: {folder} does not exist (seen from {Path.cwd()})")
        for field, pattern in (("shards", wanted.shards), ("index", wanted.index)):
            check_braces(f"{key}.{field}", found := within(folder, pattern))
            if not found:
                raise UserError(f"{key}.{field}: {folder} holds no file that fits {pattern!r}")
    if wanted.hashes and not Path(wanted.hashes).is_file():
        raise UserError(f"{key}.hashes: {wanted.hashes} does not exist")


def check_shots(study: Study) -> None:
    """Refuse more examples than the study's own tasks have; lm-eval's are counted when their data are read."""
    evaluation = study.file.evaluation
    most = evaluation.own_tasks.items - 1  # an item is never its own example
    for name, asked in evaluation.task_sets.items():
        if asked.shots > most and (few := [task for task in asked.tasks if task in WITH_EXAMPLES]):
            key = f"evaluation.task_sets.{name}.shots"
            raise UserError(explain(key, asked.shots, f"at most {most} for {few[0]}, one fewer than its items",
                                    f"shots: {most}, or evaluation.own_tasks.items: {asked.shots + 1}"))  # fmt: skip


def check_published_scores(place: str | None) -> None:
    """Refuse published scores that are not there, and a file of them that can't be read; a folder's are read later."""
    if place is None:
        return
    path, key = Path(place), "evaluation.external"
    if not path.exists():
        raise UserError(f"{key}: {place} does not exist (seen from {Path.cwd()})")
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{key}: {place} holds no .json file")
    check_braces(key, [place, *files])
    if not path.is_dir():
        published.read(path)


def check_devices(study: Study) -> None:
    """Refuse processes that this machine, where all jobs run, has no devices for, or that need other nodes."""
    runtime, found = study.file.runtime, cuda_devices()
    check_compiler(runtime)
    for name, spec in study.trained.items():
        spread = placement(spec, runtime)
        if spread.nodes > 1 and "SLURM_JOB_ID" not in os.environ:
            allowed = f"at most {runtime.processes_per_node} (runtime.processes_per_node) without --profile slurm"
            fix = f"processes: {runtime.processes_per_node}"
            raise UserError(explain(f"runtime.processes ({name})", spread.processes, allowed, fix))
        if runtime.device == "cuda" and found and spread.per_node > found:
            allowed = f"at most {found}, the CUDA devices of this machine"
            raise UserError(explain(f"runtime.processes ({name})", spread.per_node, allowed, f"processes: {found}"))
    if runtime.device == "cuda" and not found:
        allowed = "cpu, as this machine shows no CUDA device; or --profile slurm, whose jobs run elsewhere"
        raise UserError(explain("runtime.device", "cuda", allowed, "device: cpu"))
    if runtime.device == "cuda" and runtime.memorization_processes > found:
        allowed, fix = f"at most {found}, the CUDA devices of this machine", f"memorization_processes: {found}"
        raise UserError(explain("runtime.memorization_processes", runtime.memorization_processes, allowed, fix))


def check_names(study: Study) -> None:
    """Refuse names that mean nothing wherever the study runs; raises UserError at the first."""
    from scripts.evaluate.names import check_tasks

    for tasks in study.file.evaluation.task_sets.values():
        check_tasks(tasks.tasks, tasks.include_path)
    check_shots(study)


def check_place(study: Study, root: Path, *, here: bool) -> None:
    """What the folder, and the machine if the jobs run `here`, must hold; raises UserError at the first that fails."""
    from scripts.evaluate.cache import check_task_data
    from scripts.evaluate.names import task_files
    from scripts.train.trackers import check_trackers

    check_trackers(study.file.runtime)
    for tasks in study.file.evaluation.task_sets.values():
        check_braces("evaluation.task_sets: include_path", task_files(tasks.include_path))
    check_task_data(study, root)
    check_published_scores(study.file.evaluation.external)
    check_writable(root)
    check_files(study)
    check_parents(study)
    check_published_runs(study)
    check_training(study, root)
    check_shared(study, root)
    check_orders(study, root)
    check_room(study, root)
    if here:
        check_devices(study)


def check_all(study: Study, root: Path, *, here: bool = False) -> None:
    """Every check; raises UserError at the first that fails."""
    check_names(study)
    check_place(study, root, here=here)


def rehearse(study: Study) -> None:
    """A dry run's start: refuse names that mean nothing, and say in the end what a start here would be refused for."""
    check_names(study)
    try:
        check_place(study, Path(), here=False)  # where jobs would run, a dry run doesn't know
    except UserError as error:  # told in the end, as the list of jobs is long
        atexit.register(print, f"\nstarted here, this would be refused before the first job:\n{error}", file=sys.stderr)


def begin(study_file: str, study: Study, *, here: bool) -> None:
    """The workflow's start: check everything, then hand the study to the jobs as one file."""
    try:
        check_all(study, Path(), here=here)
    except UserError as error:
        sys.exit(f"refused before the first job:\n{error}")
    path, content = Path(study_file), study.file.model_dump()
    if not path.exists() or read_json(path) != content:
        write_json(path, content)


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--study", type=Path, default=Path("config.yaml"), help="study file (default: config.yaml)")
    parser.add_argument("--file-only", action="store_true", help="check the study file alone, not what it names")
    arguments = parser.parse_args()
    study = load(arguments.study)
    if not arguments.file_only:
        check_all(study, Path())
    steps = sum(len(study.steps(name)) for name in study.runs)
    print(f"{arguments.study}: {len(study.runs)} runs, {steps} checkpoints, {bytes_needed(study) / 1e9:.1f} GB at most")
