"""The Pygments lexer for `.seg`, used by `segdsl show`, Sphinx, MkDocs and `pygmentize -l seg`."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from pygments.lexer import RegexLexer, RegexLexerMeta, bygroups, include
from pygments.token import Comment, Error, Keyword, Name, Number, Operator, Punctuation, String, Text, Whitespace

from segdsl.editor.highlight import INHERIT_SCOPE, Entry, Include, Region, Rule, build_rule_table

TOKENS: dict[str, Any] = {
    "comment.line.documentation": Comment.Special,
    "comment": Comment.Single,
    "markup.inline.raw": String.Backtick,
    "punctuation.definition.comment": Comment.Special,
    "punctuation.definition.string": String.Double,
    "string": String.Double,
    "constant.character.escape": String.Escape,
    "constant.numeric.size": Number.Hex,
    "constant.numeric.version": Number.Integer,
    "constant.numeric": Number,
    "constant.language": Keyword.Constant,
    "keyword.control.import": Keyword.Namespace,
    "keyword.operator.logical": Operator.Word,
    "keyword.operator": Operator,
    "keyword.other.unit": Keyword.Type,
    "keyword": Keyword,
    "storage": Keyword.Declaration,
    "entity.name.section": Name.Namespace,
    "entity.name.namespace": Name.Namespace,
    "entity.name.type.component": Name.Class,
    "entity.name.type": Name.Class,
    "support.class": Name.Function,
    "support.function": Name.Builtin,
    "support.type": Keyword.Type,
    "support.constant": Name.Constant,
    "support.variable": Name.Property,
    "variable.other.key": Name.Attribute,
    "variable.parameter": Name.Variable.Instance,
    "variable.other.declaration": Name.Variable,
    "variable.other.constant.dimension": Name.Constant,
    "variable": Name,
    "punctuation": Punctuation,
    "invalid": Error,
}
"""Pygments tokens by scope; a scope gets the token of its longest prefix in this table."""


def find_token(scope: str | None) -> Any:
    """Return the Pygments token of a scope; None is whitespace."""
    if scope is None:
        return Whitespace
    parts = scope.split(".")
    prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((TOKENS[p] for p in prefixes if p in TOKENS), Text)


def build_states() -> dict[str, list[Any]]:
    """Convert the rule table to Pygments states."""
    contexts = build_rule_table()
    scopes: dict[str, str | None] = {}
    for entries in contexts.values():
        scopes |= {e.inner: e.scope for e in entries if isinstance(e, Region)}
    states = {
        name: [_build_state_entry(entry, scopes.get(name)) for entry in entries] for name, entries in contexts.items()
    }
    ends = {e.inner: e for entries in contexts.values() for e in entries if isinstance(e, Region)}
    # The end comes first, as in TextMate: rules of the inner context must not consume it.
    for name, region in ends.items():
        states[name].insert(0, (region.end.pattern, _build_action(region.end, region.scope), "#pop"))
    states["rest"].insert(0, (r"\n", Whitespace))
    states["root"] = [include("file")]
    return states


def _build_state_entry(entry: Entry, scope: str | None) -> Any:
    if isinstance(entry, Include):
        return include(entry.context)
    if isinstance(entry, Region):
        return (entry.begin.pattern, _build_action(entry.begin, entry.scope), entry.inner)
    return (entry.pattern, _build_action(entry, scope))


def _build_action(rule: Rule, outer: str | None) -> Any:
    tokens = [find_token(outer if scope == INHERIT_SCOPE else scope) for scope in rule.scopes]
    return bygroups(*tokens) if re.compile(rule.pattern).groups else tokens[0]


class _LazyLexerMeta(RegexLexerMeta):
    """Builds the token table on first use: Pygments imports every registered lexer just to read its file names."""

    def get_tokendefs(cls) -> dict[str, list[Any]]:
        return build_states()


class SegLexer(RegexLexer, metaclass=_LazyLexerMeta):
    """Lexer for `.seg` programs and libraries."""

    name = "seg"
    aliases: ClassVar[list[str]] = ["seg", "segdsl"]
    filenames: ClassVar[list[str]] = ["*.seg"]
    mimetypes: ClassVar[list[str]] = ["text/x-seg"]
    flags = re.MULTILINE

    @staticmethod
    def analyse_text(text: str) -> float:
        """Return 1.0 for text with a version header such as `seg 1`, else 0.0."""
        return 1.0 if re.match(r"\s*seg [0-9]+\s*$", text, re.MULTILINE) else 0.0
