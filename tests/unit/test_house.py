"""House rules of the code: what the rules import is light, and modules stay readable."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from scripts.common.environment import ROOT

MODULES = sorted(path for path in (ROOT / "scripts").rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
HEAVY = ("torch", "transformers", "deepspeed", "datasets", "lm_eval", "pandas", "pyarrow", "numpy", "altair")


def imported_by_rules() -> set[str]:
    """Modules that the Snakefile and the rule files import."""
    found = set()
    for path in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("from scripts."):
                package, _, names = line.removeprefix("from ").partition(" import ")
                home = ROOT / package.replace(".", "/")
                inner = [name.split(" as ")[0].strip() for name in names.split(",")]
                found |= {f"{package}.{name}" for name in inner} if home.is_dir() else {package}
    return found


def test_a_dry_run_loads_nothing_heavy() -> None:
    modules = sorted(imported_by_rules())
    assert len(modules) > 10
    program = f"import sys, {', '.join(modules)}; print(*sorted({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_every_command_of_a_package_is_there() -> None:
    for package in sorted(path.parent for path in (ROOT / "scripts").glob("*/__main__.py")):
        (table,) = (
            ast.literal_eval(node.value)
            for node in ast.parse((package / "__main__.py").read_text()).body
            if isinstance(node, ast.Assign)
        )
        for name, module in table.items():
            tree = TREES[package / f"{module.replace('.', '/')}.py"]
            assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body), name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT / "scripts").as_posix())
def test_a_module_stays_readable(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450
    assert ast.get_docstring(TREES[path]), "its first sentence says what it is"
    functions = [node for node in ast.walk(TREES[path]) if isinstance(node, ast.FunctionDef)]
    assert [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= 50] == []


def test_modules_that_belong_together_are_a_package() -> None:
    """No two modules of one package begin with the same word."""
    for folder in {path.parent for path in MODULES}:
        words = Counter(path.stem.split("_")[0] for path in MODULES if path.parent == folder)
        assert [word for word, count in words.items() if count > 1] == [], folder
