"""Load one GGUF file in this process, generate, and print resident memory and speed as JSON.

Run in a process of its own for every file: memory that one model gave back would hide in the next one's.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np

from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.export.llama import Llama, library

STATUS = Path("/proc/self/status")
MIB = 1024  # kB


def resident() -> float:
    """Resident memory of this process in MiB, pages of a memory-mapped file that were touched included.

    Read from /proc/self/status (proc(5): VmRSS, in kB); raises UserError where there is none.
    """
    if not STATUS.exists():
        raise UserError(f"{STATUS}: no such file; resident memory is read there, which takes Linux")
    return resident_in(STATUS.read_text())


def resident_in(status: str) -> float:
    """MiB of VmRSS in the text of a status file."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, flags=re.MULTILINE)
    if found is None:
        raise UserError(f"{STATUS}: has no line VmRSS")
    return int(found[1]) / MIB


def measure(path: Path, context: int, threads: int, prompt: list[int], generate: int) -> dict[str, float]:
    """Memory in MiB before and after loading and after generating greedily; seconds; tokens per second."""
    library()
    before, start = resident(), time.perf_counter()
    with Llama(path, context, threads) as model:
        loaded, ready = resident(), time.perf_counter()
        logits = model.feed(prompt)
        read = time.perf_counter()
        for _ in range(generate):
            logits = model.feed([int(np.argmax(logits[0]))])
        done = time.perf_counter()
        return {
            "before_mib": round(before, 2),
            "loaded_mib": round(loaded, 2),
            "generated_mib": round(resident(), 2),
            "load_seconds": round(ready - start, 4),
            "prompt_tokens": len(prompt),
            "prompt_tokens_per_second": round(len(prompt) / (read - ready), 1),
            "generated_tokens": generate,
            "generated_tokens_per_second": round(generate / (done - read), 1),
        }


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("file", type=Path, help="GGUF file")
    parser.add_argument("--context", type=int, default=512, help="tokens of prompt and generated text (default: 512)")
    parser.add_argument("--threads", type=int, default=1, help="threads llama.cpp computes with (default: 1)")
    parser.add_argument("--prompt", type=int, nargs="+", default=[0], help="token ids to begin with (default: 0)")
    parser.add_argument("--generate", type=int, default=64, help="tokens to generate (default: 64)")
    asked = parser.parse_args()
    if asked.generate < 1 or len(asked.prompt) + asked.generate > asked.context:
        raise UserError(f"--prompt of {len(asked.prompt)} and --generate {asked.generate} need 1 token and "
                        f"at most --context {asked.context} together")  # fmt: skip
    print(json.dumps(measure(asked.file, asked.context, asked.threads, asked.prompt, asked.generate)))
