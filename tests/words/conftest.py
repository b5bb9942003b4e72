"""New words for the tests: the files in `members`, each a word with its implementation, imported for a while."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from segdsl.data.augment.pipeline import STEPS
from segdsl.diagnostics import aliases
from segdsl.editor.highlight import build_rule_table
from segdsl.ir.word import REGISTRY
from segdsl.lang.suggest import misplaced
from segdsl.lower.modules import LOWERINGS
from segdsl.run.engine.criterion import CRITERION_BUILDERS

MEMBERS = Path(__file__).parent / "members"
TABLES: tuple[dict[Any, Any], ...] = (
    REGISTRY, aliases._MEANINGS, aliases._DIFFERENCES, CRITERION_BUILDERS, STEPS, LOWERINGS,
)  # fmt: skip
"""What a new word is registered in."""


def _clear_caches() -> None:
    build_rule_table.cache_clear()
    misplaced._index_slots.cache_clear()


def import_member(name: str) -> ModuleType:
    """Import a file of `members` as a module of that name."""
    spec = importlib.util.spec_from_file_location(f"member_{name}", MEMBERS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def members() -> Iterator[dict[str, ModuleType]]:
    """All new words by the name of their file; afterwards nothing of them is left."""
    before = [dict(table) for table in TABLES]
    found = {path.stem: import_member(path.stem) for path in sorted(MEMBERS.glob("*.py"))}
    _clear_caches()
    yield found
    for table, old in zip(TABLES, before, strict=True):
        table.clear()
        table.update(old)
    _clear_caches()
    for module in found.values():
        del sys.modules[module.__name__]
