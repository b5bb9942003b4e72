"""Highlighting: every character gets a scope, and the right one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename, guess_lexer
from pygments.token import Error, Text, Whitespace

import segdsl.ops
import segdsl.words  # noqa: F401 - importing registers every word
from segdsl.editor.ansi import highlight_source
from segdsl.editor.highlight import (
    KEYWORD_SCOPES,
    PROPERTIES,
    Region,
    Rule,
    build_alternation,
    build_rule_table,
    collect_choices,
    collect_section_names,
)
from segdsl.editor.pygments_lexer import SegLexer, find_token
from segdsl.ir.values import UNITS
from segdsl.ir.word import REGISTRY
from segdsl.lang.elaborate.functions import FUNCTIONS
from segdsl.syntax.lexer import lex
from segdsl.syntax.tokens import KEYWORDS

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*(ROOT / "specs").glob("*.seg"), *(ROOT / "segdsl" / "std").glob("*.seg")])
Scopes = Callable[[str], list[str]]


def name_of(path: Path) -> str:
    return path.name


def manual() -> list[str]:
    """Return the examples of the manual."""
    text = (ROOT / "grammar" / "LANGUAGE.md").read_text(encoding="utf-8")
    return re.findall(r"^```seg\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def texts() -> Iterator[str]:
    yield from (file.read_text(encoding="utf-8") for file in FILES)
    yield from manual()


REST = """seg 1

drop data.train.stop
train.stop = none
train.last = true or not false and true
"""
"""Keywords that the files above do not contain."""


def test_there_are_files_to_test() -> None:
    assert len(FILES) >= 5
    assert len(manual()) >= 10


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_textmate_leaves_nothing_unscoped(file: Path, scopes: Scopes) -> None:
    text = file.read_text(encoding="utf-8")
    bare = [(at, text[at]) for at, scope in enumerate(scopes(text)) if not text[at].isspace() and unscoped(scope)]
    assert bare == []


def unscoped(scope: str) -> bool:
    return scope in ("", "source") or scope.startswith("invalid")


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_pygments_leaves_nothing_unscoped(file: Path) -> None:
    for token, text in SegLexer().get_tokens(file.read_text(encoding="utf-8")):
        assert token is not Text and token not in Error, text
        assert not text or (token in Whitespace) == (not text.strip()), (token, text)


def test_the_examples_of_the_manual_are_scoped_as_well(scopes: Scopes) -> None:
    for text in manual():
        assert not [c for c, s in zip(text, scopes(text), strict=True) if not c.isspace() and unscoped(s)]


def test_the_reader_sees_what_is_unscoped(scopes: Scopes) -> None:
    assert unscoped(scopes("a ; b")[2])
    assert scopes('"std/a.seg"')[3] == "string.quoted.double"


def test_textmate_and_pygments_agree_on_every_character(scopes: Scopes) -> None:
    for text in texts():
        textmate = [find_token(s) for s in scopes(text)]
        at = 0
        for token, piece in SegLexer(stripnl=False, ensurenl=False).get_tokens(text):
            for character in piece:
                assert character.isspace() or textmate[at] is token, (at, piece, textmate[at], token)
                at += 1
        assert at == len(text)


def test_keywords_are_what_the_lexer_says(scopes: Scopes) -> None:
    expected = set(KEYWORD_SCOPES.values())
    seen = set()
    for text in (*texts(), REST):
        found = scopes(text)
        for token in lex(text, "").tokens:
            if token.kind == token.text.upper() and token.text in KEYWORDS:
                seen.add(token.text)
                assert found[token.start] in expected, (token, found[token.start])
            elif token.kind == "NAME":
                wanted = expected - {"constant.language"} if token.text == "none" else expected
                assert found[token.start] not in wanted, (token, found[token.start])
    assert seen == KEYWORDS


def test_every_keyword_has_a_scope() -> None:
    assert set(KEYWORD_SCOPES) == KEYWORDS


SAMPLES = [
    ("seg 1", "seg", "keyword.other.header"),
    ("seg 1", "1", "constant.numeric.version"),
    ("model = Net()", "model", "entity.name.section"),
    ("model Net(width: int) {", "model", "storage.type.component"),
    ("model Net(width: int) {", "Net", "entity.name.type.model"),
    ("block Net(width: int) {", "width", "variable.parameter"),
    ("block Net(width: int) {", "int", "support.type"),
    ("  in xs: list", "in", "storage.type.binding"),
    ("  in xs: list", "list", "support.type"),
    ("  in x: [B, C, H/4, 3]", "C", "variable.other.constant.dimension"),
    ("  y = [a for a in xs]", "in", "keyword.control.loop"),
    ("  y = [t -> A() for i in xs from t = x]", "t =", "variable.other.declaration"),
    ("  y = [a\n  in b]", "in", "keyword.control.loop"),
    ("  x -> Conv(8, 3x3) as stem", "stem", "variable.other.declaration"),
    ("  x -> Conv(8, 3x3) as stem", "Conv", "support.class.op"),
    ("  x -> Conv(8, 3x3) as stem", "3x3", "constant.numeric.size"),
    ("  x -> Mine(8)", "Mine", "entity.name.type.component"),
    ("  x -> ns.Mine(8)", "ns", "entity.name.namespace"),
    ("  x -> ns.Mine(8)", "Mine", "entity.name.type.component"),
    ("  x -> each A(b = 1)", "each", "keyword.control.loop"),
    ("  x -> each A(b = 1)", "b", "variable.parameter"),
    ("  let n = x.channels", "channels", "support.variable.property"),
    ("  let n = len(xs)", "len", "support.function"),
    ("  len = A()", "len", "variable.other.key"),
    ("block A() {\n  data = x\n}\ntrain {\n}", "data", "variable.other.declaration"),
    ("block A() {\n  data = x\n}\ntrain {\n}", "train", "entity.name.section"),
    ("block A() {\n  y = x\n\nmodel B() {", "B()", "entity.name.type.model"),
    ("train.lr.x = Adam(\n  lr = 1e-3,\n)", "lr =", "variable.parameter"),
    ("train.optimizer.lr = 1", "optimizer", "variable.other.key"),
    ("train.optimizer.lr = 1", "train", "entity.name.section"),
    ("train.stop = EarlyStopping(10 epochs)", "epochs", "keyword.other.unit"),
    ("train.stop = EarlyStopping(10 epochs)", "EarlyStopping", "support.class.stopper"),
    ("drop data.train.augment.photo", "drop", "keyword.other.drop"),
    ("drop data.train.augment.photo", "data", "entity.name.section"),
    ("data {", "data", "entity.name.section"),
    ("dta {", "dta", "variable.other.key"),
    ("  train {", "train", "entity.name.section"),
    ("export.openvino.precision = fp16", "fp16", "support.constant.member"),
    ("  normalize = none", "none", "support.constant.member"),
    ("  freeze = none", "none", "constant.language"),
    ("x -> ResizeTo(x, mode = nearest)", "nearest", "support.constant.member"),
    ("x -> ResizeTo(image, mode = nearest)", "image", "variable.other"),
    ("  monitor = val.dice", "val.dice", "support.constant.member"),
    ("a = 0.2..1.0", "..", "keyword.operator.range"),
    ("a = 0.2..1.0", "1.0", "constant.numeric"),
    ("a = 1e-3", "1e-3", "constant.numeric"),
    ("a = 50%", "50%", "invalid.illegal.number"),
    ("a = 10iters", "10iters", "invalid.illegal.number"),
    ("a = if b then c else d", "then", "keyword.control.conditional"),
    ("a = b and not c", "not", "keyword.operator.logical"),
    ("a = data.in", "in", "variable.other.member"),
    ("a = len(data.classes)", "data", "entity.name.section"),
    ('a = "x\\n"', "\\n", "constant.character.escape"),
    ('a = "x\\q"', "\\q", "invalid.illegal.escape"),
    ('import "std/a.seg" as ns', "ns", "variable.other.declaration"),
    ('import "std/a.seg" as ns', "import", "keyword.control.import"),
    ("## uses `Identity()` here", "uses", "comment.line.documentation"),
    ("## uses `Identity()` here", "`Identity", "markup.inline.raw"),
    ("# not a `doc`", "doc", "comment.line.number-sign"),
]


@pytest.mark.parametrize(("text", "part", "scope"), SAMPLES)
def test_the_scope_of_a_part(text: str, part: str, scope: str, scopes: Scopes) -> None:
    start = text.index(part)
    end = start + len(part.split()[0].removesuffix("()"))
    assert set(scopes(text)[start:end]) == {scope}


def test_an_unclosed_bracket_ends_with_the_block(scopes: Scopes) -> None:
    text = "block A() {\n  y = x -> Conv(8,\n}\n\nblock B(c: int) {\n  in x\n}\n"
    found = scopes(text)
    assert found[text.index("B")] == "entity.name.type.block"
    assert found[text.index("in x")] == "storage.type.binding"


def test_everything_the_language_names_is_in_the_rules() -> None:
    entries = [entry for rules in build_rule_table().values() for entry in rules]
    patterns = " ".join(e.pattern for e in entries if isinstance(e, Rule))
    patterns += " ".join(e.begin.pattern for e in entries if isinstance(e, Region))
    named = [*REGISTRY, *UNITS, *FUNCTIONS, *collect_section_names(), *KEYWORDS, *PROPERTIES]
    assert not [n for n in named if not re.search(rf"(?<![A-Za-z0-9_]){n}(?![A-Za-z0-9_])", patterns)]


def test_choices_hold_the_members_of_words_and_sections() -> None:
    assert collect_choices()["mode"] >= {"nearest", "bilinear"}
    assert collect_choices()["scale"] == {"image", "input"}
    assert "val.dice" in collect_choices()["monitor"]
    assert "lr" not in collect_choices()


def test_the_longest_name_is_tried_first() -> None:
    match = re.match(build_alternation(["Adam", "AdamW"]), "AdamW")
    assert match and match[0] == "AdamW"


def test_groups_cover_their_patterns() -> None:
    for rules in build_rule_table().values():
        for entry in rules:
            for rule in (entry.begin, entry.end) if isinstance(entry, Region) else (entry,):
                if isinstance(rule, Rule):
                    groups = re.compile(rule.pattern).groups
                    assert len(rule.scopes) == max(groups, 1), rule


def test_pygments_finds_the_lexer() -> None:
    assert get_lexer_by_name("seg").name == get_lexer_by_name("segdsl").name == "seg"
    assert get_lexer_for_filename("a.seg").name == "seg"
    assert guess_lexer("seg 1\n\ndata {\n}\n").name == "seg"
    assert SegLexer.analyse_text("data = 1\n") == 0.0


def test_colors_change_nothing_else() -> None:
    text = (ROOT / "segdsl" / "std" / "lite_hrnet.seg").read_text(encoding="utf-8")
    colored = highlight_source(text)
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == text
    assert len(set(re.findall(r"\x1b\[[0-9;]*m", colored))) > 5


def imports(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_table_needs_neither_torch_nor_pygments() -> None:
    loaded = imports("import segdsl.editor\nfrom segdsl.editor.highlight import build_rule_table\nbuild_rule_table()")
    assert "pydantic" in loaded
    assert loaded.isdisjoint({"torch", "numpy", "pygments"})


def test_naming_the_lexer_reads_no_registry() -> None:
    assert "pydantic" not in imports("from segdsl.editor.pygments_lexer import SegLexer\nSegLexer.filenames")


EXTENSION = ROOT / "grammar" / "vscode"


def test_the_extension_names_files_that_exist() -> None:
    package = json.loads((EXTENSION / "package.json").read_text(encoding="utf-8"))["contributes"]
    paths = [g["path"] for g in package["grammars"]] + [lang["configuration"] for lang in package["languages"]]
    assert len(paths) == 3
    for path in paths:
        json.loads((EXTENSION / path).read_text(encoding="utf-8"))
    assert {lang["id"] for lang in package["languages"]} == {"seg"}
    for entry in package["grammars"]:
        assert json.loads((EXTENSION / entry["path"]).read_text(encoding="utf-8"))["scopeName"] == entry["scopeName"]


@pytest.mark.parametrize(
    ("line", "opens"),
    [
        ("data {", True), ("  crop = Crop(", True), ("ys = [  # all", True), ("block A(c: int) {", True),
        ("lr = 1e-3", False), ('root = "{"', False), ("# see {", False), ("a = [b]", False),
    ],
)  # fmt: skip
def test_the_editor_indents_behind_an_open_bracket(line: str, opens: bool) -> None:
    rules = json.loads((EXTENSION / "language-configuration.json").read_text(encoding="utf-8"))["indentationRules"]
    assert bool(re.search(rules["increaseIndentPattern"], line)) == opens
    assert bool(re.search(rules["decreaseIndentPattern"], "  }"))
