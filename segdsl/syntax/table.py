"""The LALR(1) parse table: built by Lark from `grammar/seg.lark`, stored as `seg.table`, loaded in 1-2 ms.

After a change of the grammar, ``python -m segdsl.syntax.table`` rebuilds the file; Lark then also proves that the
grammar is LALR(1). A test checks that the file is up to date. Parsing never imports Lark.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

TABLE_FILE = Path(__file__).with_name("seg.table")
PACKAGE_ROOT = Path(__file__).resolve().parents[1]
START_SYMBOLS = ("file", "override")


class Rule(NamedTuple):
    """A production of the grammar.

    ``action`` is the :class:`TreeBuilder` method that builds its value, or "" if the child at ``picks[0]`` passes
    through; ``picks`` are the positions of the children that the method gets, -1 for an absent optional one.
    """

    origin: str
    length: int
    action: str
    picks: tuple[int, ...]


class Table(NamedTuple):
    """The table of the automaton.

    ``states[s]`` maps a terminal to n >= 0 (shift, then go to state n) or n < 0 (reduce by ``rules[~n]``), and the
    origin of a reduced rule to the next state. ``starts`` maps a start symbol to its first state.
    """

    states: list[dict[str, int]]
    rules: list[Rule]
    starts: dict[str, int]


@lru_cache(maxsize=1)
def load_table() -> Table:
    """Load the table of this version of the language."""
    data = json.loads(TABLE_FILE.read_text(encoding="utf-8"))
    rules = [Rule(origin, length, action, tuple(picks)) for origin, length, action, picks in data["rules"]]
    return Table(data["states"], rules, data["starts"])


def find_grammar_file() -> Path:
    """Return the path of the grammar: inside an installed package, or next to the package in a checkout."""
    inside = PACKAGE_ROOT / "grammar" / "seg.lark"
    return inside if inside.is_file() else PACKAGE_ROOT.parent / "grammar" / "seg.lark"


def build_table(grammar: str) -> dict[str, Any]:
    """Build the table of a grammar as JSON data. Raises lark's GrammarError if the grammar is not LALR(1)."""
    from lark import Lark
    from lark.lexer import Lexer
    from lark.parsers.lalr_analysis import LALR_Analyzer

    class ExternalLexer(Lexer):
        """Stands in for Lark's own lexer, which is not needed to build the table."""

        def __init__(self, conf: Any) -> None: ...

        def lex(self, *_: Any) -> Any: ...

    # `strict` makes Lark fail on conflicts that it would otherwise resolve silently.
    lark = Lark(grammar, parser="lalr", lexer=ExternalLexer, start=list(START_SYMBOLS), maybe_placeholders=True)
    analyzer = LALR_Analyzer(lark.parser.parser_conf, strict=True)
    analyzer.compute_lalr()
    table: Any = analyzer.parse_table
    numbers = _number_states(table)
    rules = sorted(lark.rules, key=lambda rule: (rule.origin.name, [s.name for s in rule.expansion]))
    rule_numbers = {rule: number for number, rule in enumerate(rules)}
    states = [
        {
            symbol: numbers[target] if action.name == "Shift" else ~rule_numbers[target]
            for symbol, (action, target) in sorted(table.states[state].items())
        }
        for state in numbers
    ]
    starts = {name: numbers[table.start_states[name]] for name in START_SYMBOLS}
    return {"starts": starts, "rules": [_convert_rule(rule) for rule in rules], "states": states}


def _number_states(table: Any) -> dict[int, int]:
    """Number Lark's states in the order in which they are reached, start states first."""
    # Lark's own numbers differ between runs, and the file has to be reproducible for the test and for reviews.
    numbers = {table.start_states[name]: number for number, name in enumerate(START_SYMBOLS)}
    pending = list(numbers)
    for state in pending:
        for _, (action, target) in sorted(table.states[state].items()):
            if action.name == "Shift" and target not in numbers:
                numbers[target] = len(numbers)
                pending.append(target)
    return numbers


def _convert_rule(rule: Any) -> tuple[str, int, str, list[int]]:
    picks: list[int] = []
    # Lark expands `[x]` into rules with and without `x`; `empty_indices` marks the gaps, which become None arguments.
    symbols = iter(enumerate(rule.expansion))
    for left_out in rule.options.empty_indices or [False] * len(rule.expansion):
        index, symbol = (-1, None) if left_out else next(symbols)
        if symbol is None or not (symbol.is_term and symbol.filter_out):
            picks.append(index)
    passes = rule.alias is None and rule.options.expand1 and len(picks) == 1
    return rule.origin.name, len(rule.expansion), "" if passes else rule.alias or rule.origin.name, picks


def dump_table(data: dict[str, Any]) -> str:
    """Return a table as JSON text with one line per state and rule, so that a diff of it is readable."""

    def dump_line(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    parts = [f'"starts":{dump_line(data["starts"])}']
    parts += [f'"{key}":[\n' + ",\n".join(map(dump_line, data[key])) + "\n]" for key in ("rules", "states")]
    return "{" + ",\n".join(parts) + "}\n"


def write_table() -> None:
    """Write `seg.table` from the grammar."""
    TABLE_FILE.write_text(dump_table(build_table(find_grammar_file().read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    write_table()
