"""Files of a native checkpoint folder: which there are, and reading them without executing anything in them.

Layout (docs/formats.md): `layer_<layer>-model_<tp>-model_states.pt` (pipeline modules), `mp_rank_<tp>_model_states.pt`,
`[bf16_]zero_pp_rank_<dp>_mp_rank_<tp>_optim_states.pt`; <tp> and <dp> are tensor- and data-parallel ranks.
"""

from __future__ import annotations

import errno
import pickle
import re
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scripts.common.errors import UserError
from scripts.common.untrusted import reading

LAYER_FILE = re.compile(r"layer_(\d+)-model_(\d+)-model_states\.pt")
MODEL_FILE = re.compile(r"mp_rank_(\d+)_model_states\.pt")
# DeepSpeed before 0.3 wrote no underscore before optim_states
OPTIMIZER_FILE = re.compile(r"(?:bf16_)?zero_pp_rank_(\d+)_mp_rank_(\d+)_?optim_states\.pt")


class DynamicLossScaler:
    """Takes the attributes of DeepSpeed's class of this name, and none of its code."""


class LossScaler:
    """The same for a scale that never changes."""


class Fragment:
    """The same for DeepSpeed's fragment_address: where a parameter's part of a partition lies."""


class ZeroStage(int):
    """The same for DeepSpeed's ZeroStageEnum."""


ZERO_STAGES = {"disabled": 0, "optimizer_states": 1, "gradients": 2, "weights": 3}


def _member(*arguments: Any) -> ZeroStage:
    """A ZeroStageEnum by name, as Python 3.11.2 writes it: as a call of getattr, which here gets nothing else."""
    if len(arguments) != 2 or arguments[0] is not ZeroStage or arguments[1] not in ZERO_STAGES:
        raise pickle.UnpicklingError("GLOBAL getattr was not an allowed global")
    return ZeroStage(ZERO_STAGES[arguments[1]])


_SCALERS = "deepspeed.runtime.fp16.loss_scaler"
_RECONSTRUCT = np.zeros(0).__reduce__()[0]
# Every class that optimizer and model files of DeepSpeed 0.3.15 (DeeperSpeed) and 0.19.8 name beside torch's own:
# stand-ins for DeepSpeed's, and numpy's arrays for the state of numpy's random numbers.
ALLOWED: list[Any] = [
    (DynamicLossScaler, f"{_SCALERS}.DynamicLossScaler"),
    (LossScaler, f"{_SCALERS}.LossScaler"),
    (Fragment, "deepspeed.utils.tensor_fragment.fragment_address"),
    (ZeroStage, "deepspeed.runtime.zero.config.ZeroStageEnum"),
    *((_member, f"{module}getattr") for module in ("", "builtins.", "__builtin__.")),
    (_RECONSTRUCT, "numpy.core.multiarray._reconstruct"),
    (_RECONSTRUCT, "numpy._core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    type(np.dtype(np.uint32)),
]
VIEWS = 4  # times that a number may stand in the tensors of a file: tied matrices do twice
_READING = threading.Lock()  # what torch lets through is one list for the whole process
_REFUSED = re.compile(r"GLOBAL (\S+) was not an allowed global")


@contextmanager
def _only(allowed: list[Any]) -> Iterator[None]:
    """Let torch read these classes and no others: not those that a library of this process lets through for itself."""
    others = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(allowed)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(others)


def load(path: Path) -> Any:
    """What torch saved in a file, tensors on the CPU and mapped from the disk until they are used.

    Read with weights_only and the classes of ALLOWED: nothing in the file is executed. Raises UserError if the
    file is missing, truncated, no torch file, expands, or holds another class or tensors other than plain ones.
    """
    if not path.is_file():
        raise UserError(f"{path}: the file is missing")
    with reading(path):
        found = _load(path)
        _check_plain(path, found)
        return found


def _load(path: Path) -> Any:
    try:
        if in_zip := zipfile.is_zipfile(path):
            _check_stored(path)
        with _READING, _only(ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=in_zip)
    except pickle.UnpicklingError as error:
        found = _REFUSED.search(str(error))
        fact = f"holds the class {found[1]}, which is not read here" if found else "truncated, or no torch file"
        raise UserError(f"{path}: {fact}") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # which torch raises for a file cut short
            raise
        raise UserError(f"{path}: truncated, or no torch file") from None
    except (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        told = (str(error) or "it ends early").splitlines()[0]
        raise UserError(f"{path}: truncated, or no torch file ({told})") from None


def _check_stored(path: Path) -> None:
    """Refuse an archive that gives more bytes than it has: torch compresses nothing."""
    with zipfile.ZipFile(path) as archive:
        held = archive.infolist()
    packed = next((entry.filename for entry in held if entry.compress_type != zipfile.ZIP_STORED), None)
    if packed or sum(entry.file_size for entry in held) > path.stat().st_size:
        raise UserError(f"{path}: {packed or 'its archive'} is compressed or overlaps, and torch writes it plain")


def _check_plain(path: Path, content: Any) -> None:
    """Refuse tensors that are sparse, quantized or without numbers, and views that tell of many more numbers than there
    are in the file, such as one number said to be a matrix."""
    waiting, seen, total = [content], set(), 0
    while waiting:
        held = waiting.pop()
        if id(held) in seen:
            continue
        seen.add(id(held))
        if isinstance(held, Tensor):
            if held.layout != torch.strided or held.device.type != "cpu" or held.is_quantized or held.is_nested:
                raise UserError(f"{path}: holds a tensor that is sparse, quantized or without numbers")
            total += held.numel() * held.element_size()
        elif isinstance(held, Mapping):
            waiting += held.values()
        elif isinstance(held, list | tuple):
            waiting += held
    if total > VIEWS * path.stat().st_size:
        raise UserError(f"{path}: its tensors tell of {total:,} bytes, many more than the file holds")


def refuse_code(folder: Path, share: tuple[int, int] = (0, 1)) -> None:
    """Raise UserError for a checkpoint whose files name classes other than a checkpoint's own: DeepSpeed, which loads
    them when training goes on, would run what they name. Tensors stay on the disk.

    `share` is (rank, size): of `size` processes each looks at its part of the files.
    """
    rank, size = share
    for path in sorted(folder.glob("*.pt"))[rank::size]:
        load(path)


def mapping(path: Path) -> dict[str, Any]:
    """`load`, refusing a file that does not hold a dictionary."""
    found = load(path)
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds {type(found).__name__}, not a dictionary")
    return found


def layer_files(folder: Path) -> dict[int, dict[int, Path]]:
    """Layer files by layer number and tensor-parallel rank; empty in the sequential layout."""
    found: dict[int, dict[int, Path]] = {}
    for path in sorted(folder.glob("layer_*-model_*-model_states.pt")):
        if match := LAYER_FILE.fullmatch(path.name):
            found.setdefault(int(match[1]), {})[int(match[2])] = path
    return found


def model_files(folder: Path) -> list[Path]:
    """mp_rank_*_model_states.pt by tensor-parallel rank; raises UserError if there is none or one is missing."""
    found = {}
    for path in folder.glob("mp_rank_*_model_states.pt"):
        if match := MODEL_FILE.fullmatch(path.name):
            found[int(match[1])] = path
    if not found:
        what = "no such folder" if not folder.is_dir() else "no mp_rank_*_model_states.pt: not a native checkpoint"
        raise UserError(f"{folder}: {what}")
    for rank in range(max(found) + 1):
        if rank not in found:
            raise UserError(f"{folder / f'mp_rank_{rank:02d}_model_states.pt'}: the file is missing")
    return [found[rank] for rank in sorted(found)]


def optimizer_files(folder: Path) -> dict[int, dict[int, Path]]:
    """ZeRO files by tensor-parallel and data-parallel rank; empty where there are none."""
    found: dict[int, dict[int, Path]] = {}
    for path in sorted(folder.glob("*zero_pp_rank_*_mp_rank_*")):
        if match := OPTIMIZER_FILE.fullmatch(path.name):
            found.setdefault(int(match[2]), {})[int(match[1])] = path
    return found


def named(path: Path, content: Mapping[Any, Any], key: object, kind: type | tuple[type, ...]) -> Any:
    """content[key]; raises UserError if a file lacks the key or holds another type there."""
    if key not in content:
        raise UserError(f"{path}: has no {key!r}; it has {', '.join(map(str, content))}")
    value = content[key]
    if not isinstance(value, kind):
        raise UserError(f"{path}: {key!r} is {type(value).__name__}")
    return value
