"""House rules of the code: what the rules import is light, and modules stay readable."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from scripts.common.environment import ROOT

MODULES = sorted(path for path in (ROOT / "scripts").rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
HEAVY = ("torch", "transformers", "deepspeed", "datasets", "lm_eval", "pandas", "pyarrow", "numpy", "altair")
FOLDERS = "checkpoints|models|exports|data|results|logs|benchmarks"


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


def test_pages_name_what_is_there() -> None:
    """Files, modules and tests, but for what the page on stages adds."""
    missing, named = [], 0
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("[dpe]*/**/*.md")]:
        text = page.read_text(encoding="utf-8")
        names = re.findall(r"(?<![\w/.-])(?:scripts|rules|tests|studies|profiles)/[\w/-]+\.[a-z]+(?:::\w+)?", text)
        names += [name.replace(".", "/") for name in re.findall(r"\bscripts(?:\.\w+)+", text)]
        for name in (name for name in names if "norms" not in name):
            file, _, test = name.partition("::")
            path, above = ROOT / file, (ROOT / file).parent.with_suffix(".py")  # of scripts.package.module.name
            there = path.exists() or path.with_suffix(".py").exists()
            if test or (not there and above.exists()):
                source = (path if test else above).read_text(encoding="utf-8")
                there = re.search(rf"^(?:def |class )?{test or path.name}\b", source, flags=re.MULTILINE) is not None
            missing += [] if there else [f"{page.name}: {name}"]
        named += len(names)
    assert named > 300 and missing == []


def commands() -> dict[str, dict[str, str]]:
    """Modules by command, by package."""
    found = {}
    for path in sorted((ROOT / "scripts").glob("*/__main__.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        (table,) = (ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))
        found[path.parent.name] = table
    return found


def test_every_command_of_a_package_is_there() -> None:
    for package, table in commands().items():
        for module in table.values():
            tree = TREES[ROOT / "scripts" / package / f"{module.replace('.', '/')}.py"]
            assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body), module


def test_whatever_calls_a_command_calls_one_that_is_there() -> None:
    called, known = set(), commands()
    for path in [ROOT / "Snakefile", ROOT / "Makefile", *(ROOT / "rules").glob("*.smk"), *MODULES]:
        text = path.read_text(encoding="utf-8")
        called |= set(re.findall(r"-m scripts\.([a-z]+) ([a-z-]+)", text))
        called |= set(re.findall(r'"scripts\.([a-z]+)",\s+"([a-z-]+)"', text))
        assert not re.findall(r"-m scripts\.[a-z]+\.|\"-m\", \"scripts\.[a-z]+\.", text), path
    assert len(called) > 40
    assert [each for each in sorted(called) if each[1] not in known[each[0]]] == []


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


def test_a_name_that_other_packages_import_by_itself_means_one_thing() -> None:
    """Modules are namespaces, so that many may have a `write`; one that two have is reached through its module."""
    packages = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES}
    imported: dict[str, set[str]] = {}
    for path, tree in TREES.items():
        home = packages[path].split(".")[1]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in packages.values():
                for name in node.names if node.module.split(".")[1] != home else []:
                    imported.setdefault(name.name, set()).add(node.module)
    assert len(imported) > 300
    assert {name: sorted(homes) for name, homes in imported.items() if len(homes) > 1} == {}


def paths_in(tree: ast.AST) -> list[str]:
    """Texts, but for docstrings, that begin with a folder of a study and a slash, or are one that is made a Path of."""
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    used = [node.args for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Path"]
    used += [[node.right] for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)]
    alone = {id(node) for nodes in used for node in nodes}
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [
        node.value
        for node in texts
        if (id(node) not in said and re.match(f"({FOLDERS})/", node.value))
        or (id(node) in alone and re.fullmatch(FOLDERS, node.value))
    ]


def test_paths_of_a_study_stand_in_one_module() -> None:
    seen = ast.parse(
        'f"data/{x}", Path("models"), root / "logs", "data", root / "results/a b", "or results/study.json"'
    )
    assert paths_in(seen) == ["data/", "models", "logs", "results/a b"]
    study = ROOT / "scripts/study"
    others = {path: tree for path, tree in TREES.items() if path not in (study / "paths.py", study / "catalogue.py")}
    assert {path: found for path, tree in others.items() if (found := paths_in(tree))} == {}  # Pythia has models/ too
