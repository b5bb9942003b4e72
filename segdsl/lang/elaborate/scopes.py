"""Scopes of source files: the names that the expressions of a file may use."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from segdsl.ir.word import REGISTRY
from segdsl.syntax import tree


class BlockDef(NamedTuple):
    """A block or model, with the file whose scope its body uses."""

    tree: tree.Block
    file: FileScope

    @property
    def name(self) -> str:
        return self.tree.name.name

    def list_inputs(self) -> list[tree.In]:
        return [s for s in self.tree.body if isinstance(s, tree.In)]


@dataclass(eq=False)
class FileScope:
    """One file: its tree, and the names that its expressions may use.

    ``blocks`` are its own definitions, ``imports`` those of other files, ``namespaces`` the files with an alias.
    ``lets`` holds the trees of its lets, ``values`` those that are already evaluated. ``has_syntax_errors`` means that
    parts of the file did not parse, so that a missing name is no error of its own. ``is_incomplete`` means the same
    for the components of the file and of everything that it imports.
    """

    name: str
    path: Path
    tree: tree.File
    lets: dict[str, tree.Let] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    blocks: dict[str, BlockDef] = field(default_factory=dict)
    imports: dict[str, BlockDef] = field(default_factory=dict)
    namespaces: dict[str, FileScope] = field(default_factory=dict)
    parent: FileScope | None = None
    has_syntax_errors: bool = False
    is_incomplete: bool = False

    def find_component(self, name: str) -> BlockDef | None:
        """Return the block ``name`` that is in scope of this file, or None."""
        return self.blocks.get(name) or self.imports.get(name)

    def list_component_names(self) -> list[str]:
        """Return the name of every component in scope of this file."""
        return [*self.blocks, *self.imports, *REGISTRY]

    def list_lineage(self) -> list[FileScope]:
        """Return this file and the files that it extends, the root first."""
        return [*(self.parent.list_lineage() if self.parent else ()), self]
