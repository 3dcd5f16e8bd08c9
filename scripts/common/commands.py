"""The commands of a package: `python -m scripts.<package> <command> …` calls `main` of the command's module."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from scripts.common.errors import UserError, explain, near, run

Call = Callable[[Callable[[], None]], None]


def dispatch(package: str, modules: Mapping[str, str], call: Call = run) -> None:
    """Call the command that the command line names, `--help` tells which there are.

    `modules` names the module of each command below `package`; only the one asked for is imported. `call` runs its
    `main`, which finds its own arguments in sys.argv. A name that is none ends with exit code 2 and the near one.
    """
    asked, arguments = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if asked in ("-h", "--help"):
        print(_help(package, modules))
        return
    sys.argv = [f"python -m {package} {asked}", *arguments]
    call(lambda: _main(package, modules, asked)())


def _main(package: str, modules: Mapping[str, str], asked: str) -> Callable[[], None]:
    if asked not in modules:
        guess = near(asked, list(modules))
        fix = f"python -m {package} {guess}" if guess else f"python -m {package} --help"
        raise UserError(explain(package, asked, ", ".join(modules), fix))
    main: Callable[[], None] = import_module(f"{package}.{modules[asked]}").main
    return main


def _help(package: str, modules: Mapping[str, str]) -> str:
    width = max(map(len, modules)) + 2
    lines = [f"  {name:{width}}{_first_sentence(f'{package}.{module}')}" for name, module in modules.items()]
    told = ["commands:", *lines, "", f"python -m {package} <command> --help tells what one takes"]
    return "\n".join([f"usage: python -m {package} <command> …", "", *told])


def _first_sentence(module: str) -> str:
    """Of a module's docstring, read from its source, as importing all of them takes seconds."""
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    told = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return " ".join(told.partition("\n\n")[0].split())
