"""House rules that a test can enforce: sizes of files and functions, imports, and dependencies."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON_FILES = sorted(p for folder in ("segdsl", "tests", "bench") for p in (ROOT / folder).rglob("*.py"))
MAX_LINES, MAX_FUNCTION, MAX_COMPLEXITY = 400, 60, 15
HEAVY = ("torch", "torchvision", "numpy", "cv2", "datumaro", "openvino", "safetensors", "rich", "tensorboard", "PIL")
FRONT = ("diagnostics", "explain", "syntax", "ir", "ops", "words", "lang", "passes", "editor")
NAMES_OF_IMPORTS = {
    "opencv-python-headless": "cv2",
    "pygments": "pygments",
    "openvino-model-api": "model_api",
    "pillow": "PIL",
}

PARTS_OF_DECLARED = {"pydantic_core"}
"""Packages that a declared dependency pins to one version."""


def to_relative_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_files_and_functions_fit_on_a_screen_or_so(sources: list[Any]) -> None:
    sizes = {source.name: source.text.count("\n") for source in sources}
    assert {name: lines for name, lines in sizes.items() if lines > MAX_LINES} == {}
    functions = {
        f"{source.name}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for source in sources
        for node in source.nodes
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert {name: lines for name, lines in functions.items() if lines > MAX_FUNCTION} == {}


def measure_complexity(function: ast.AST) -> int:
    """Return the cyclomatic complexity: one and every branch, loop, condition and handler."""
    branches = (ast.If, ast.For, ast.While, ast.ExceptHandler, ast.IfExp, ast.comprehension, ast.match_case)
    nodes = list(ast.walk(function))
    conditions = sum(len(node.values) - 1 for node in nodes if isinstance(node, ast.BoolOp))
    return 1 + conditions + sum(isinstance(node, branches) for node in nodes)


def find_functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function of the package with its place."""
    for path in PYTHON_FILES:
        if path.is_relative_to(ROOT / "segdsl"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    yield f"{to_relative_name(path)}:{node.lineno} {node.name}", node


def test_no_function_is_too_complex() -> None:
    found = {place: measure_complexity(node) for place, node in find_functions()}
    assert len(found) > 1000
    assert not {place: number for place, number in found.items() if number > MAX_COMPLEXITY}


def test_no_module_has_a_catch_all_name() -> None:
    drawers = {"utils", "util", "common", "helpers", "core", "misc"}
    assert not [to_relative_name(p) for p in PYTHON_FILES if drawers & {p.stem, p.parent.name}]


def find_front_modules() -> Iterator[str]:
    for layer in FRONT:
        for path in sorted((ROOT / "segdsl" / layer).rglob("*.py")):
            dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield dotted.removesuffix(".__init__")


def find_imports_after(code: str, *names: str) -> list[str]:
    """Return which of the modules ``names`` a fresh interpreter has imported after running ``code``."""
    script = f"import sys\n{code}\nprint('IMPORTED', *(n for n in {names!r} if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("IMPORTED")[2].split()


def test_the_front_half_imports_nothing_heavy() -> None:
    modules = sorted(find_front_modules())
    assert len(modules) > 20
    code = "import importlib\n" + "\n".join(f"importlib.import_module({m!r})" for m in ["segdsl", *modules])
    assert find_imports_after(code, *HEAVY) == []


def test_the_test_for_imports_sees_them() -> None:
    assert find_imports_after("import numpy", *HEAVY) == ["numpy"]


@pytest.mark.parametrize("file", ["specs/litehrnet_s.seg", "specs/quickstart.seg"])
def test_check_imports_nothing_heavy(file: str) -> None:
    code = f"from segdsl.cli.invoke import run_cli\nassert run_cli(['check', {file!r}]) == 0"
    assert find_imports_after(code, *HEAVY) == []


@pytest.mark.parametrize("args", [["--help"], ["train", "--help"], ["--version"]])
def test_help_imports_neither_torch_nor_pydantic(args: list[str]) -> None:
    code = f"from segdsl.cli.invoke import run_cli\nassert run_cli({args!r}) == 0"
    assert find_imports_after(code, *HEAVY, "pydantic", "lark") == []


def test_import_segdsl_imports_nothing_heavy() -> None:
    assert find_imports_after("import segdsl", *HEAVY, "pydantic", "lark", "click") == []


def find_third_party(sources: list[Any]) -> set[str]:
    """Return the top-level packages that files import, except for the standard library and segdsl."""
    found: set[str] = set()
    for node in (node for source in sources for node in source.nodes):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(_find_package(node.module))
    return found - set(sys.stdlib_module_names) - {"segdsl"}


def _find_package(module: str) -> str:
    """Return the package of a module. `torch.utils.tensorboard` requires tensorboard."""
    return "tensorboard" if module.startswith("torch.utils.tensorboard") else module.split(".")[0]


def read_declared() -> dict[str, str]:
    """Return the declared requirements by import name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for name, lines in project["optional-dependencies"].items() if name != "dev" for line in lines]
    names = {re.split(r"[\[<>=!~ ]", line)[0].lower(): line for line in project["dependencies"] + extras}
    return {NAMES_OF_IMPORTS.get(name, name.replace("-", "_")): line for name, line in names.items()}


def test_every_dependency_is_used_and_every_import_declared(sources: list[Any], package: list[Any]) -> None:
    used, by_tests = find_third_party(package), find_third_party(sources)
    known = set(read_declared())
    assert used - known - PARTS_OF_DECLARED == set(), "imported, not declared"
    assert known - by_tests == set(), "declared, not imported"


def test_dependencies_are_ranges_and_say_why() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text[text.index("dependencies = [") : text.index("[project.scripts]")]
    lines = [line.strip() for line in block.splitlines() if line.strip().startswith('"')]
    assert len(lines) > 15
    for line in lines:
        assert re.match(r'"[\w\[\]-]+>=[\d.]+,<[\d.]+",\s+# .+', line), line


def test_pins_lie_within_the_ranges() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    )
    for text in (*project["dependencies"], *project["optional-dependencies"]["dev"]):
        wanted = Requirement(text)
        assert wanted.name.lower() in pins, f"{wanted.name} is not pinned"
        assert wanted.specifier.contains(pins[wanted.name.lower()]), f"{wanted} does not admit its pin"


def test_the_grammar_is_in_one_place() -> None:
    assert [p.relative_to(ROOT).as_posix() for p in (ROOT / "segdsl").rglob("*.lark")] == []
    assert (ROOT / "grammar" / "seg.lark").is_file()
