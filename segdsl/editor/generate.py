"""Generation of the grammars and the reference: `python -m segdsl.editor.generate`.

A test checks that the committed files are up to date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segdsl.editor import textmate
from segdsl.editor.reference import build_reference

ROOT = Path(__file__).resolve().parents[2]
"""The root of the repository. Only works in a checkout, not in an installed package."""


def generate_files() -> dict[str, str]:
    """Return the text of every generated file by its path in the repository."""
    # VS Code extensions cannot refer to files outside their folder, hence the second copy of the grammar.
    grammar = _format_json(textmate.build_grammar())
    return {
        "grammar/seg.tmLanguage.json": grammar,
        "grammar/vscode/syntaxes/seg.tmLanguage.json": grammar,
        "grammar/vscode/syntaxes/markdown.seg.tmLanguage.json": _format_json(textmate.build_markdown_grammar()),
        "grammar/REFERENCE.md": build_reference(),
    }


def find_stale_files(root: Path = ROOT) -> list[str]:
    """Return the generated files that are missing or out of date."""
    return [
        name
        for name, text in generate_files().items()
        if not (root / name).is_file() or (root / name).read_bytes() != text.encode()
    ]


def write_stale_files(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Write and list the files that are out of date; with `--check`, only list them and return 1 if there are any."""
    names = find_stale_files(root)
    for name in names:
        print(name)
        if "--check" not in arguments:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(generate_files()[name], encoding="utf-8", newline="\n")
    return 1 if names and "--check" in arguments else 0


def _format_json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(write_stale_files(sys.argv[1:]))
