"""Fixtures of the language tests: programs written as strings."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

import pytest

from segdsl.diagnostics import Diagnostic, SegError
from segdsl.ir.program import Program
from segdsl.lang.program import check_file, load

HEAD = 'seg 1\n\nextends "std/semantic.seg"\n\n'
NET = """
model Net(classes: int, width: int = 8) {
  in image: [B, 3, H, W]

  backbone = image -> Conv(width)
  head     = backbone -> Conv(classes)
  out logits = head
}

model = Net(classes = len(data.classes))
"""


class Bench:
    """Writes sources into a temporary folder and loads them as programs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, text: str, name: str = "main.seg") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def check(self, text: str, *overrides: str) -> tuple[Program | None, tuple[Diagnostic, ...]]:
        """Check a complete source; return the program and its warnings."""
        program, warnings, _ = check_file(self.write(text), overrides)
        return program, warnings

    def program(self, text: str, *overrides: str) -> Program:
        """Load a complete source that is a program."""
        program, _ = self.check(text, *overrides)
        assert program is not None
        return program

    def loaded(self, text: str, *overrides: str) -> Program:
        """Load a complete source that is a program, with its resolved source."""
        return load(self.write(text), overrides)

    def settings(self, text: str, *overrides: str) -> Program:
        """Load a small program with these sections and lets."""
        return self.program(HEAD + textwrap.dedent(text) + NET, *overrides)

    def errors(self, text: str, *overrides: str) -> list[Diagnostic]:
        """Return the errors of a complete source."""
        try:
            self.check(text, *overrides)
        except SegError as error:
            return [d for d in error.diagnostics if d.severity == "error"]
        return []

    def setting_errors(self, text: str, *overrides: str) -> list[Diagnostic]:
        """Return the errors of sections and lets."""
        return self.errors(HEAD + textwrap.dedent(text) + NET, *overrides)

    def model_text(self, body: str, blocks: str = "", size: str = "64x64") -> str:
        """Return a program around the statements of a model with an `image` and a map `x`: 48 channels, half size."""
        inner = textwrap.indent(textwrap.dedent(body).strip("\n") + "\n", "  ")
        return (
            f"{HEAD}data.input_size = {size}\n\n{textwrap.dedent(blocks)}\n"
            "model Net(classes: int) {\n  in image: [B, 3, H, W]\n\n"
            "  x = image -> Conv(48, 3x3, stride = 2, bias = false)\n"
            f"{inner}"
            "  last = image -> Conv(classes, bias = false)\n  out logits = last\n}\n\n"
            "model = Net(classes = len(data.classes))\n"
        )

    def model(self, body: str, blocks: str = "", size: str = "64x64") -> Program:
        """Load the program of :meth:`model_text`."""
        return self.program(self.model_text(body, blocks, size))

    def model_errors(self, body: str, blocks: str = "", size: str = "64x64") -> list[Diagnostic]:
        """Return the errors in the statements of a model."""
        return self.errors(self.model_text(body, blocks, size))

    def model_warnings(self, body: str, blocks: str = "") -> list[str]:
        """Return the slugs of the warnings about the statements of a model."""
        return [d.slug for d in self.check(self.model_text(body, blocks))[1]]

    def keys(self, body: str, blocks: str = "") -> list[str]:
        """Return the weight keys of the statements of a model in order, without those of `x` and `last`."""
        state = self.model(body, blocks).graph.collect_state()
        return [k for k in state if not k.startswith(("x.", "last."))]

    def shape(self, body: str, size: str = "64x64", name: str = "y", blocks: str = "") -> str:
        """Return the symbolic shape of a binding."""
        graph = self.model(body, blocks, size).graph
        return "[" + ", ".join(str(e) for e in graph.collect_shapes()[graph.names[name]]) + "]"

    def said(self, diagnostic: Diagnostic, text: str | None = None) -> str:
        """Return the part of a source that a diagnostic points at."""
        assert diagnostic.span is not None
        source = text if text is not None else (self.folder / "main.seg").read_text(encoding="utf-8")
        return source[diagnostic.span.start : diagnostic.span.end]

    def advice(self, statements: Iterable[str]) -> str:
        """Format the errors of single statements for a golden file: each statement, then its messages and helps."""
        lines: list[str] = []
        for statement in statements:
            lines.append(statement)
            for found in self.setting_errors(statement):
                lines += [f"  {found.slug}: {found.message}", f"    help: {found.help}"]
                lines += [f"    fix: {found.fix.text}"] if found.fix else []
        return "\n".join(lines) + "\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
