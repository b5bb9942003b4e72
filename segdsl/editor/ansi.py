"""Source text in the colours of a terminal."""

from __future__ import annotations

from typing import Any


def ansi(text: str) -> str:
    """``text`` with escape sequences for 16 colours, readable on dark and on light ground."""
    from pygments import highlight
    from pygments.formatters.terminal import TerminalFormatter

    from segdsl.editor.pygments_lexer import SegLexer

    return highlight(text, SegLexer(stripnl=False, ensurenl=False), TerminalFormatter(colorscheme=_scheme()))


def _scheme() -> dict[Any, tuple[str, str]]:
    """Colours on a light and on a dark ground, by token; what is not here stays as the terminal writes."""
    from pygments.token import Comment, Error, Keyword, Name, Number, Operator, String, Token

    one = {
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
    return {token: (color, color) for token, color in one.items()}
