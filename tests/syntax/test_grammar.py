"""The grammar: LALR(1), an up-to-date table, and the same terminals and rules in lexer and parser."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from segdsl.syntax import table
from segdsl.syntax.tokens import KEYWORDS, MARKS
from segdsl.syntax.tree_builder import TreeBuilder

ROOT = Path(__file__).resolve().parents[2]
GRAMMAR = table.find_grammar_file().read_text(encoding="utf-8")


def test_the_grammar_in_use_is_the_one_in_the_repository() -> None:
    assert table.find_grammar_file() == ROOT / "grammar" / "seg.lark"


def test_the_grammar_has_no_conflict_and_the_table_is_up_to_date() -> None:
    assert table.dump_table(table.build_table(GRAMMAR)) == table.TABLE_FILE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("?product: unary\n        | product (STAR", "?product: unary\n        | product (STAR | PLUS"),
        ("?interval: sum\n", "?interval: sum\n         | product\n"),
    ],
    ids=["shift-reduce", "reduce-reduce"],
)
def test_conflicts_are_detected(old: str, new: str) -> None:
    from lark.exceptions import GrammarError

    assert old in GRAMMAR
    with pytest.raises(GrammarError):
        table.build_table(GRAMMAR.replace(old, new))


def test_grammar_and_lexer_have_the_same_words_and_marks() -> None:
    defined = dict(re.findall(r"^([A-Z]+): (.+)$", GRAMMAR, re.MULTILINE))
    texts = {text: name for name, right in defined.items() for text in re.findall(r'"([^"]+)"', right)}
    assert texts == {**{word: word.upper() for word in KEYWORDS}, **MARKS}


def test_every_action_is_a_method_and_every_method_an_action() -> None:
    actions = {rule.action for rule in table.load_table().rules} - {""}
    methods = {name for name in vars(TreeBuilder) if not name.startswith("_")}
    assert actions == methods


def test_loading_the_table_and_parsing_import_no_lark() -> None:
    code = "import sys, segdsl.syntax.parser as p; p.parse('seg 1\\na = = 1', 'f'); print('lark' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
