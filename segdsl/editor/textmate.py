"""TextMate grammars for VS Code and other editors, converted from the highlighting rules."""

from __future__ import annotations

import re
from typing import Any

from segdsl.editor.highlight import INHERIT_SCOPE, Entry, Include, Region, Rule, Table, build_rule_table

SCOPE = "source.seg"
EDIT_NOTE = "Generated from segdsl/editor/highlight.py. Edit that file, then run python -m segdsl.editor.generate."


def build_grammar() -> dict[str, Any]:
    """Return the TextMate grammar of `.seg` files."""
    contexts = build_rule_table()
    return {
        "information_for_contributors": [EDIT_NOTE],
        "name": "seg",
        "scopeName": SCOPE,
        "fileTypes": ["seg"],
        "patterns": [{"include": "#file"}],
        "repository": {name: {"patterns": _convert_context(contexts, name)} for name in contexts},
    }


def build_markdown_grammar() -> dict[str, Any]:
    """Return the TextMate grammar for fenced code blocks marked `seg` in Markdown."""
    return {
        "information_for_contributors": [EDIT_NOTE],
        "scopeName": "markdown.seg.codeblock",
        "injectionSelector": "L:text.html.markdown",
        "patterns": [{"include": "#block"}],
        "repository": {
            "block": {
                "name": "markup.fenced_code.block.markdown",
                "begin": r"(^|\G)(\s*)(`{3,}|~{3,})\s*(?i:(seg)(\s[^`]*)?$)",
                "beginCaptures": {
                    "3": {"name": "punctuation.definition.markdown"},
                    "4": {"name": "fenced_code.block.language"},
                },
                "end": r"(^|\G)(\2|\s{0,3})(\3)\s*$",
                "endCaptures": {"3": {"name": "punctuation.definition.markdown"}},
                "patterns": [
                    {
                        "begin": r"(^|\G)(\s*)(.*)",
                        "while": r"(^|\G)(?!\s*([`~]{3,})\s*$)",
                        "contentName": "meta.embedded.block.seg",
                        "patterns": [{"include": SCOPE}],
                    }
                ],
            }
        },
    }


def _convert_context(contexts: Table, name: str) -> list[dict[str, Any]]:
    return [
        _convert_entry(entry)
        for entry in contexts[name]
        if not (isinstance(entry, Rule) and set(entry.scopes) <= INHERIT_SCOPES)
    ]


INHERIT_SCOPES = {INHERIT_SCOPE, None}
"""Scopes that text inherits anyway: rules with only these are omitted from the grammar."""


def _convert_entry(entry: Entry) -> dict[str, Any]:
    if isinstance(entry, Include):
        return {"include": f"#{entry.context}"}
    if isinstance(entry, Region):
        return {
            **({"name": _qualify_scope(entry.scope)} if entry.scope else {}),
            "begin": entry.begin.pattern,
            "beginCaptures": _convert_captures(entry.begin),
            "end": entry.end.pattern,
            "endCaptures": _convert_captures(entry.end),
            "patterns": [{"include": f"#{entry.inner}"}],
        }
    if re.compile(entry.pattern).groups:
        return {"match": entry.pattern, "captures": _convert_captures(entry)}
    return {"match": entry.pattern, "name": _qualify_scope(entry.scopes[0] or "")}


def _convert_captures(rule: Rule) -> dict[str, dict[str, str]]:
    first = 1 if re.compile(rule.pattern).groups else 0
    return {str(n): {"name": _qualify_scope(scope)} for n, scope in enumerate(rule.scopes, first) if scope}


def _qualify_scope(scope: str) -> str:
    return f"{scope}.seg"
