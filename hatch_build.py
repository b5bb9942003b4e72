"""Puts the grammar, which lives beside the package, into the wheel; an editable install reads it where it lives."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GrammarHook(BuildHookInterface):
    """Adds `segdsl/grammar/seg.lark` to wheels."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            build_data["force_include"]["grammar/seg.lark"] = "segdsl/grammar/seg.lark"
