"""A minimal interpreter of TextMate grammars: line by line, and of the earliest matches the first rule wins."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from segdsl.editor.textmate import SCOPE, build_grammar

ROOT = Path(__file__).resolve().parents[2]
Scopes = list[str]
"""The innermost scope of every character of a text, without the suffix of the language."""


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


class Engine:
    """Applies the generated grammar to texts."""

    def __init__(self) -> None:
        self.repository: dict[str, Any] = build_grammar()["repository"]

    def rules(self, patterns: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for pattern in patterns:
            if "include" in pattern:
                yield from self.rules(self.repository[pattern["include"].removeprefix("#")]["patterns"])
            else:
                yield pattern

    def scopes(self, text: str) -> Scopes:
        found: Scopes = []
        stack: list[dict[str, Any]] = [{"patterns": [{"include": "#file"}], "name": SCOPE}]
        for line in text.splitlines(keepends=True):
            found += self._line(line, stack)
        return [scope.removesuffix(".seg") for scope in found]

    def _line(self, line: str, stack: list[dict[str, Any]]) -> Scopes:
        found = [""] * len(line)
        at = 0
        while at <= len(line):
            rule, match, closes = self._first(line, at, stack)
            name = self._name(stack)
            if match is None:
                found[at:] = [name] * (len(line) - at)
                break
            found[at : match.start()] = [name] * (match.start() - at)
            self._mark(found, rule, match, closes, name)
            if closes:
                stack.pop()
            elif "begin" in rule:
                stack.append(rule)
            elif match.end() == match.start():
                raise AssertionError(f"an empty match of {rule}")
            at = match.end()
        return found

    def _first(self, line: str, at: int, stack: list[dict[str, Any]]) -> tuple[dict[str, Any], Any, bool]:
        best: tuple[dict[str, Any], Any, bool] = ({}, None, False)
        candidates = [(stack[-1], stack[-1]["end"], True)] if "end" in stack[-1] else []
        candidates += [(r, r.get("match") or r["begin"], False) for r in self.rules(stack[-1]["patterns"])]
        for rule, pattern, closes in candidates:
            match = compiled(pattern).search(line, at)
            if match and (best[1] is None or match.start() < best[1].start()):
                best = (rule, match, closes)
        return best

    @staticmethod
    def _name(stack: list[dict[str, Any]]) -> str:
        return next((r["name"] for r in reversed(stack) if "name" in r), "")

    @staticmethod
    def _mark(found: Scopes, rule: dict[str, Any], match: re.Match[str], closes: bool, outer: str) -> None:
        whole = rule.get("name", outer)
        found[match.start() : match.end()] = [whole] * (match.end() - match.start())
        captures = rule.get("endCaptures" if closes else "beginCaptures" if "begin" in rule else "captures", {})
        for group, value in captures.items():
            start, end = match.span(int(group))
            found[start:end] = [value["name"]] * (end - start)


@pytest.fixture(scope="session")
def scopes() -> Callable[[str], Scopes]:
    """The innermost TextMate scope of every character of a text."""
    return Engine().scopes
