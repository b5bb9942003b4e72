"""The parse table: made by Lark from `grammar/seg.lark`, kept as `seg.table`, loaded in a millisecond or two.

Lark makes the table, and with it the proof that the grammar is LALR(1), when a developer changes the grammar:
``python -m segdsl.syntax.table`` writes the file, a test holds it fresh. Parsing never imports Lark.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_name("seg.table")
PACKAGE = Path(__file__).resolve().parents[1]
STARTS = ("file", "override")


class Rule(NamedTuple):
    """A production. ``action`` is the method that makes its value, "" where the child at ``picks[0]`` passes through;
    ``picks`` are the positions of the children that the method gets, -1 for one that is left out."""

    origin: str
    length: int
    action: str
    picks: tuple[int, ...]


class Table(NamedTuple):
    """``states[s]`` maps a terminal to n >= 0 (shift, then state n) or n < 0 (reduce by ``rules[~n]``), and the origin
    of a rule to the state to go to. ``starts`` maps a start symbol to its first state."""

    states: list[dict[str, int]]
    rules: list[Rule]
    starts: dict[str, int]


@lru_cache(maxsize=1)
def load() -> Table:
    """The table of this version of the language."""
    data = json.loads(FILE.read_text(encoding="utf-8"))
    rules = [Rule(origin, length, action, tuple(picks)) for origin, length, action, picks in data["rules"]]
    return Table(data["states"], rules, data["starts"])


def grammar_file() -> Path:
    """Where the grammar lies: inside an installed package, or beside it in a checkout."""
    inside = PACKAGE / "grammar" / "seg.lark"
    return inside if inside.is_file() else PACKAGE.parent / "grammar" / "seg.lark"


def build(grammar: str) -> dict[str, Any]:
    """The table of a grammar as JSON data. Raises lark's GrammarError when the grammar is not LALR(1)."""
    from lark import Lark
    from lark.lexer import Lexer
    from lark.parsers.lalr_analysis import LALR_Analyzer

    class Foreign(Lexer):
        """Tells Lark that tokens come from elsewhere."""

        def __init__(self, conf: Any) -> None: ...

        def lex(self, *_: Any) -> Any: ...

    lark = Lark(grammar, parser="lalr", lexer=Foreign, start=list(STARTS), maybe_placeholders=True)
    analyzer = LALR_Analyzer(lark.parser.parser_conf, strict=True)
    analyzer.compute_lalr()
    table: Any = analyzer.parse_table
    numbers = _numbered(table)
    rules = sorted(lark.rules, key=lambda rule: (rule.origin.name, [s.name for s in rule.expansion]))
    rule_numbers = {rule: number for number, rule in enumerate(rules)}
    states = [
        {
            symbol: numbers[target] if action.name == "Shift" else ~rule_numbers[target]
            for symbol, (action, target) in sorted(table.states[state].items())
        }
        for state in numbers
    ]
    starts = {name: numbers[table.start_states[name]] for name in STARTS}
    return {"starts": starts, "rules": [_rule(rule) for rule in rules], "states": states}


def _numbered(table: Any) -> dict[int, int]:
    """Lark's states in the order in which they are reached, start states first: the same on every run."""
    numbers = {table.start_states[name]: number for number, name in enumerate(STARTS)}
    pending = list(numbers)
    for state in pending:
        for _, (action, target) in sorted(table.states[state].items()):
            if action.name == "Shift" and target not in numbers:
                numbers[target] = len(numbers)
                pending.append(target)
    return numbers


def _rule(rule: Any) -> tuple[str, int, str, list[int]]:
    picks: list[int] = []
    symbols = iter(enumerate(rule.expansion))
    for left_out in rule.options.empty_indices or [False] * len(rule.expansion):
        index, symbol = (-1, None) if left_out else next(symbols)
        if symbol is None or not (symbol.is_term and symbol.filter_out):
            picks.append(index)
    passes = rule.alias is None and rule.options.expand1 and len(picks) == 1
    return rule.origin.name, len(rule.expansion), "" if passes else rule.alias or rule.origin.name, picks


def dump(data: dict[str, Any]) -> str:
    """The JSON text of a table, one line for each state and each rule, so that a change can be read."""

    def line(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    parts = [f'"starts":{line(data["starts"])}']
    parts += [f'"{key}":[\n' + ",\n".join(map(line, data[key])) + "\n]" for key in ("rules", "states")]
    return "{" + ",\n".join(parts) + "}\n"


def main() -> None:
    """Writes `seg.table` from the grammar."""
    FILE.write_text(dump(build(grammar_file().read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
