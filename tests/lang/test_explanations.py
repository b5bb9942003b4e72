"""The examples in the explanations of the language's slugs: the wrong ones give the slug, the right ones pass."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from segdsl.diagnostics import Diagnostic, SegError
from segdsl.explain import explanations
from segdsl.lang.program import check_file

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "segdsl" / "explain" / "lang.md").read_text(encoding="utf-8")
SLUGS = re.findall(r"^## (\S+)", TEXT, re.MULTILINE)
IN_WORDS = {
    "file-missing",
    "file-unreadable",
    "import-ambiguous",
    "import-cycle",
    "import-outside-root",
    "nesting-budget",
    "too-many-errors",
}
"""Slugs whose examples need several files; the golden tests hold them."""
TOP = ("data", "train", "eval", "export", "weights", "model", "block", "import", "extends", "drop", "seg", "training")
HEAD = 'seg 1\n\nextends "std/semantic.seg"\n\n'
MODEL = """
model Net(classes: int) {
  in image: [B, 3, H, W]

  backbone = image -> Conv(8)
  head     = backbone -> Conv(classes)
  out logits = head
}
"""
BODY = """model Net(classes: int) {
  in image: [B, 3, H, W]

  x = image -> Conv(48, 3x3, stride = 2)
BODY
  last = image -> Conv(classes)
  out logits = last
}
"""


def examples(slug: str) -> tuple[str, str]:
    """The wrong and the right example of a slug."""
    body = explanations()[slug]
    found = [
        re.search(rf"^{which}:.*\n\n((?:    .*\n|\n)+)", body + "\n", re.MULTILINE) for which in ("Wrong", "Right")
    ]
    wrong, right = (textwrap.dedent(match.group(1)).strip() + "\n" for match in found if match)
    return wrong, right


def program(example: str) -> str:
    """A whole program around an example: sections and definitions, or statements of a model with a map `x` of 48."""
    if not example.startswith(TOP) and not (example.startswith("let") and "\ntrain" in example):
        body = textwrap.indent(example, "  ").replace("y: [", "x -> Conv(2) as z -> Conv(48, 3x3, stride = 1) as y: [")
        return f"{HEAD}{BODY.replace('BODY', body.rstrip())}\nmodel = Net(classes = len(data.classes))\n"
    if example.startswith("seg"):
        return example
    head = "seg 1\n\n" if example.startswith("extends") else HEAD
    imports, rest = re.match(r"((?:(?:import|extends) .*\n)*)([\s\S]*)", example).groups()  # type: ignore[union-attr]
    model = "" if "model Net" in rest else MODEL
    call = "" if re.search(r"^model =", rest, re.MULTILINE) else "\nmodel = Net(classes = len(data.classes))\n"
    used = block_use(rest)
    return f"{head}{imports}\n{rest}{model.replace('image -> Conv(8)', used)}{call}"


def block_use(text: str) -> str:
    """A flow through the block that an example defines, or through a convolution."""
    block = re.search(r"block (\w+)", text)
    return f"image -> {block.group(1)}(8)" if block else "image -> Conv(8)"


def findings(text: str, folder: Path) -> list[Diagnostic]:
    path = folder / "example.seg"
    path.write_text(text, encoding="utf-8")
    try:
        return list(check_file(path)[1])
    except SegError as error:
        return list(error.diagnostics)


@pytest.mark.parametrize("slug", [s for s in SLUGS if s not in IN_WORDS])
def test_the_wrong_example_is_refused_with_this_slug(slug: str, tmp_path: Path) -> None:
    text = program(examples(slug)[0])
    assert slug in {d.slug for d in findings(text, tmp_path)}, text


@pytest.mark.parametrize("slug", [s for s in SLUGS if s not in IN_WORDS])
def test_the_right_example_passes(slug: str, tmp_path: Path) -> None:
    text = program(examples(slug)[1])
    assert findings(text, tmp_path) == [], text
