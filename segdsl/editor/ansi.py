"""Syntax highlighting in terminals."""

from __future__ import annotations

from typing import Any


def highlight_source(text: str) -> str:
    """Return ``text`` with ANSI escape sequences for 16 colors."""
    from pygments import highlight
    from pygments.formatters.terminal import TerminalFormatter

    from segdsl.editor.pygments_lexer import SegLexer

    # Pygments strips surrounding newlines by default; the output must be the file, character for character.
    return highlight(
        text, SegLexer(stripnl=False, ensurenl=False), TerminalFormatter(colorscheme=_build_color_scheme())
    )


def _build_color_scheme() -> dict[Any, tuple[str, str]]:
    """Return the colors of each token on light and dark backgrounds; other tokens keep the terminal's color."""
    from pygments.token import Comment, Error, Keyword, Name, Number, Operator, String, Token

    # One scheme for both backgrounds, because a terminal does not tell which it has: no white, black or dark blue.
    colors = {
        Token: "",
        Comment: "brightblack",
        Comment.Special: "green",
        String: "yellow",
        String.Backtick: "*green*",
        String.Escape: "*yellow*",
        Number: "cyan",
        Keyword: "magenta",
        Keyword.Type: "cyan",
        Keyword.Constant: "cyan",
        Keyword.Declaration: "magenta",
        Operator.Word: "magenta",
        Name.Namespace: "*blue*",
        Name.Class: "*brightblue*",
        Name.Builtin: "magenta",
        Name.Function: "brightblue",
        Name.Constant: "cyan",
        Error: "_red_",
    }
    return {token: (color, color) for token, color in colors.items()}
