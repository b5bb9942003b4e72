"""ARCHITECTURE.md agrees with the package: its folders, their order and what they say of themselves."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "ARCHITECTURE.md"
TABLE = re.compile(r"(?<=\| --- \| --- \|\n)(\|.*\n)+")


def read_layers() -> list[str]:
    """Return the layers of the package, top to bottom."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = [c["layers"] for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    return [layer.removeprefix("segdsl.") for layer in layers]


def read_first_line(file: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def build_table() -> str:
    """Return the rows of the table: the layers top to bottom, each followed by the folders in it."""
    rows = []
    for layer in read_layers():
        place = ROOT / "segdsl" / layer
        if not place.is_dir():
            rows.append((f"{layer}.py", read_first_line(place.with_suffix(".py"))))
        for file in sorted(place.rglob("__init__.py"), key=lambda p: p.parent):
            rows.append((f"{file.parent.relative_to(ROOT / 'segdsl').as_posix()}/", read_first_line(file)))
    return "".join(f"| `{name}` | {line.replace('|', chr(92) + '|')} |\n" for name, line in rows)


def test_the_table_lists_every_folder(golden: Callable[[Path, str], None]) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    (shown,) = TABLE.finditer(text)
    golden(DOCUMENT, text[: shown.start()] + build_table() + text[shown.end() :])


def test_every_folder_with_code_belongs_to_a_layer() -> None:
    layers = read_layers()
    for file in (ROOT / "segdsl").rglob("*.py"):
        name = file.relative_to(ROOT / "segdsl").parts[0].removesuffix(".py")
        assert name in layers or name in ("__init__", "__main__", "version"), file
        assert (file.parent / "__init__.py").is_file(), file.parent


def test_every_folder_says_in_a_sentence_what_it_holds() -> None:
    for file in (ROOT / "segdsl").rglob("__init__.py"):
        line = read_first_line(file)
        assert line.endswith(".") and 3 <= len(line.split()) <= 25, file


def test_the_paths_in_the_text_exist() -> None:
    paths = re.findall(
        r"`((?:segdsl|grammar|specs|tests|bench)/[\w./-]*|[a-z_]+(?:/\w+)*(?:/|\.py))`", DOCUMENT.read_text()
    )
    assert len(paths) > 40
    missing = [path for path in paths if not (ROOT / path).exists() and not (ROOT / "segdsl" / path).exists()]
    assert missing == []
