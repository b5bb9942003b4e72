"""The structure of package and tests: small folders, no import rings, and a tree of tests that mirrors the package."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MAX_MODULES = 14
OWN_FOLDERS = {"house", "goldens", "support"}
"""Folders of tests/ that mirror no folder of the package."""
MATERIAL = {"lang/examples", "syntax/printer/format", "words/members"}
"""Folders of what tests read."""


def test_a_folder_holds_few_modules(package: list[Any]) -> None:
    counts = Counter(source.name.rpartition("/")[0] for source in package if not source.name.endswith("__init__.py"))
    assert {folder: count for folder, count in counts.items() if count > MAX_MODULES} == {}


def test_the_tree_of_tests_mirrors_the_package(sources: list[Any]) -> None:
    tests = {Path(source.name).parent.relative_to("tests") for source in sources if source.name.startswith("tests/")}
    assert len(tests) > 20
    own = {folder.as_posix() for folder in tests if folder.parts and folder.parts[0] not in OWN_FOLDERS} - MATERIAL
    assert sorted(folder for folder in own if not (ROOT / "segdsl" / folder / "__init__.py").is_file()) == []


def test_a_folder_holds_few_tests(sources: list[Any]) -> None:
    counts = Counter(source.name.rpartition("/")[0] for source in sources if source.name.startswith("tests/"))
    assert {folder: count for folder, count in counts.items() if count > MAX_MODULES} == {}


def find_imports(source: Any, modules: set[str]) -> set[str]:
    """Return which of ``modules`` a file imports anywhere, in functions and under ``TYPE_CHECKING`` too."""
    found: set[str] = set()
    for node in source.nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & modules - {source.module}


def find_rings(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return the modules on rings, or between two of them, each with its imports among these.

    A module that imports none of the others, or that none of the others imports, is on no ring.
    """
    left = {name: set(targets) for name, targets in edges.items()}
    while True:
        targeted = set().union(*left.values()) if left else set()
        ends = {name for name, targets in left.items() if not targets or name not in targeted}
        if not ends:
            return [[name, *sorted(targets)] for name, targets in sorted(left.items())]
        left = {name: targets - ends for name, targets in left.items() if name not in ends}


def test_no_modules_import_each_other_in_a_ring(package: list[Any]) -> None:
    # A package's `__init__` that loads its members lazily is a table of contents, not a user of them.
    modules = {source.module for source in package if not source.name.endswith("__init__.py")}
    edges = {source.module: find_imports(source, modules) for source in package if source.module in modules}
    assert sum(map(len, edges.values())) > 300
    assert find_rings(edges) == []


def test_the_test_for_rings_sees_them() -> None:
    assert find_rings({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}) == [
        ["a", "b"],
        ["b", "c"],
        ["c", "a"],
    ]
    assert find_rings({"a": {"b"}, "b": {"c"}, "c": set()}) == []
