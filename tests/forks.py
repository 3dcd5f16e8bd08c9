"""A Python whose processes start at once: each is a fork of one that has imported what takes seconds.

`python()` takes `-m module arguments` and `-c program` as Python does, and so do the jobs of a Snakemake started with
it. A process of it has its own memory, working directory, environment, output and exit code; it can be sent signals,
and dies with the one that was started. Tests of what a fresh process imports, or reads from its environment while it
does, start `sys.executable`.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VARIABLE = "CASTALIA_TESTS_PYTHON"
# modules beside those of every command: what these import once they have seen a study
HEAVY = ["scripts.evaluate.scorer", "snakemake.cli", "snakemake.workflow", "torch.distributed.run"]
# what the modules read while they are imported, and jobs have set by then
ENVIRONMENT = {
    **{f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "RAYON")},
    **dict.fromkeys(["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_EVALUATE_OFFLINE"], "1"),
    **{"DISABLE_MULTIPROC": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"},
}
# The program that is called: it hands over its arguments, folder, environment and output, then waits. It passes on
# signals; if it is killed its connection closes, which `watch` sees. Without `site`, it starts in milliseconds.
CALLER = """\
#!{python} -SE
import json, os, signal, socket, sys
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until it is known to whom
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    asked = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(asked).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(asked)
    process = int(server.recv(99))
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: os.kill(process, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    code = int(server.recv(99))
if -code in PASSED_ON:
    signal.signal(-code, signal.SIG_DFL)
os.kill(os.getpid(), -code) if code < 0 else os._exit(code)
"""


def python() -> str:
    """The program to start instead of `sys.executable`."""
    return os.environ[VARIABLE]


def start() -> Callable[[], None]:
    """Start the server, which imports nothing before it is asked for a process; returns what ends it."""
    folder = tempfile.TemporaryDirectory(prefix="forks-")
    program, address = Path(folder.name) / "python", f"{folder.name}/socket"
    program.write_text(CALLER.format(python=sys.executable, address=address))
    program.chmod(0o755)
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.forks", address], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin is not None and server.stdout is not None
    server.stdout.readline()  # it listens
    os.environ[VARIABLE] = str(program)

    def end() -> None:
        server.communicate()
        folder.cleanup()

    return end


def load() -> None:
    """Import the modules of every command."""
    for path in sorted(ROOT.glob("scripts/*/__main__.py")):
        package = f"scripts.{path.parent.name}"
        for module in import_module(f"{package}.__main__").COMMANDS.values():
            import_module(f"{package}.{module}")
        del sys.modules[f"{package}.__main__"]  # each process runs it anew
    for module in HEAVY:
        import_module(module)
    gc.freeze()  # else each fork's first collection copies every page


def serve(address: str) -> socket.socket:
    """Fork for every connection, until stdin ends; returns the connection in each fork."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks here
        print("listening", flush=True)
        loaded = False
        while True:
            if sys.stdin in select.select([sys.stdin, listener], [], [])[0]:
                raise SystemExit
            connection, _ = listener.accept()
            if not loaded:
                with suppress(Exception):  # told by each process that needs the module
                    load()
                loaded = True
            if os.fork() == 0:
                return connection
            connection.close()


def watch(process: int, connection: socket.socket) -> None:
    """Tell the caller its process and later the exit code; kill the process if the caller is killed."""
    with suppress(BrokenPipeError):
        connection.sendall(str(process).encode())
    ended = os.pidfd_open(process)
    if ended not in select.select([ended, connection.fileno()], [], [])[0]:
        os.killpg(process, signal.SIGKILL)  # with what it started, which was of the caller's group
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with suppress(BrokenPipeError):
        connection.sendall(str(code).encode())


def received(connection: socket.socket) -> tuple[list[str], str, dict[str, str]]:
    """Command line, folder and environment of the caller, whose input and output this process takes."""
    size, files, _, _ = socket.recv_fds(connection, 8, 3)
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    with connection.makefile("rb") as stream:
        arguments, folder, environment = json.loads(stream.read(int.from_bytes(size, "big")))
    return arguments, folder, environment


def become(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Run the command in this process as if Python had been started for it."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable = arguments[0]
    first = [] if "PYTHONSAFEPATH" in environment else [""]
    own = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*first, *own, *(path for path in sys.path if path not in ("", str(ROOT)))]
    kind, what, *others = [each for each in arguments[1:3] if each != "-u"] + arguments[3:]  # as torchrun asks
    sys.argv = [kind, *others]
    if kind == "-c":
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    else:
        assert kind == "-m", arguments
        runpy.run_module(what, run_name="__main__", alter_sys=True)


def leave(command: Callable[[], None]) -> None:
    """Run the command and end as Python does, but without taking down every object, which takes longer than most."""
    code: object = 0
    try:
        command()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 — as the interpreter does
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code or 0))  # type: ignore[call-overload]


if __name__ == "__main__":
    caller = serve(sys.argv[1])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked = received(caller)
    child = os.fork()
    if child:
        watch(child, caller)
        os._exit(0)
    caller.close()
    os.setsid()
    leave(lambda: become(*asked))
