"""Generated files are up to date, and the reference is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from segdsl.editor import markdown, reference
from segdsl.editor.generate import find_stale_files, generate_files, write_stale_files
from segdsl.editor.reference import FUNCTION_DOCS, KIND_DOCS, PARAMETER_TYPE_DOCS, UNIT_DOCS
from segdsl.explain import explanations
from segdsl.ir.program import SECTIONS
from segdsl.ir.values import UNITS
from segdsl.ir.word import REGISTRY
from segdsl.lang.elaborate import blocks, functions

ROOT = Path(__file__).resolve().parents[2]


def test_generated_files_are_up_to_date() -> None:
    assert find_stale_files() == [], "run python -m segdsl.editor.generate"


def test_stale_files_are_listed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert find_stale_files(tmp_path) == list(generate_files())
    assert write_stale_files(["--check"], tmp_path) == 1
    assert not any(tmp_path.iterdir())
    assert write_stale_files([], tmp_path) == 0
    assert write_stale_files(["--check"], tmp_path) == 0
    (tmp_path / "grammar" / "REFERENCE.md").write_text("old", encoding="utf-8")
    capsys.readouterr()
    assert write_stale_files(["--check"], tmp_path) == 1
    assert capsys.readouterr().out == "grammar/REFERENCE.md\n"


@pytest.fixture(scope="module")
def page() -> str:
    return reference.build_reference()


def test_every_word_and_argument_is_in_the_reference(page: str) -> None:
    parts = dict(re.findall(r"^#### `(\w+)`\n(.*?)(?=^##)", page, re.DOTALL | re.MULTILINE))
    assert set(parts) == set(REGISTRY)
    for name, word in REGISTRY.items():
        listed = re.findall(r"^\| `(\w+)` \|", parts[name], re.MULTILINE)
        assert set(listed) == {*word.model_fields, *(o.name for o in getattr(word, "takes", ()))}, name


def test_every_section_and_key_is_in_the_reference(page: str) -> None:
    for name, section in SECTIONS.items():
        assert f"### `{name}`\n" in page
        for key in section.model_fields:
            assert f"| `{key}` |" in page or f"### `{name}.{key}`\n" in page


def test_every_diagnostic_is_in_the_reference(page: str) -> None:
    for slug, text in explanations().items():
        assert f"### `{slug}`\n\n{text}\n" in page


def test_handwritten_tables_are_complete() -> None:
    assert set(FUNCTION_DOCS) == set(functions.FUNCTIONS)
    assert set(PARAMETER_TYPE_DOCS) == set(blocks.PARAMETER_TYPES)
    assert set(UNIT_DOCS) == set(UNITS)
    assert {word.kind for word in REGISTRY.values()} == set(KIND_DOCS)


@pytest.mark.parametrize(
    ("word", "argument", "kind", "default"),
    [
        ("Conv", "kernel", "size", "`1x1`"),
        ("Conv", "stride", "int, at least 1", "`1`"),
        ("Conv", "init", "`default` · `kaiming`", "`default`"),
        ("Conv", "channels", "int, at least 1", ""),
        ("AdamW", "betas", "list of float, at least 0, below 1, 2 of them", "`[0.9, 0.999]`"),
        ("PhotometricDistortion", "hue", "quantity in `deg`, within 0 deg..180 deg", "`18 deg`"),
        ("RandomResizedCrop", "scale", "range, within 0.001..1.0", "`0.2..1.0`"),
        ("Warmup", "over", "quantity in `iters` or `epochs`, above 0", ""),
        ("CrossEntropy", "ignore", "int, at least 0, at most 255", "`none`"),
        ("WeightedSum", "losses", "list of loss, 1 or more", ""),
        ("ResizeTo", "like", "tensor", ""),
    ],
)
def test_types_are_in_the_words_of_the_language(page: str, word: str, argument: str, kind: str, default: str) -> None:
    part = page[page.index(f"#### `{word}`\n") :]
    assert re.search(rf"^\| `{argument}` \| (.*?) \| (.*?) \|", part, re.MULTILINE).groups() == (kind, default)  # type: ignore[union-attr]


def test_asterisks_are_escaped() -> None:
    assert markdown.escape_markdown("i*g `a*b` <x>") == "i\\*g `a*b` \\<x>"


def test_gitattributes_cover_programs_and_generated_files() -> None:
    lines = (ROOT / ".gitattributes").read_text(encoding="utf-8").splitlines()
    assert any(line.startswith("*.seg ") and "eol=lf" in line and "linguist-language=" in line for line in lines)
    marked = [line.split()[0] for line in lines if "linguist-generated" in line]
    for name in generate_files():
        assert any(Path(name).match(pattern) for pattern in marked), name
