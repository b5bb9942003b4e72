"""Mistakes in the shape of statements: heads, keys, what may stand where, and where a line ends."""

from __future__ import annotations

from collections.abc import Callable

from segdsl.diagnostics import Diagnostic
from segdsl.syntax.errors.parse_error import NOTHING, VALUE_STARTS, Problem
from segdsl.syntax.lexer import END, OPENING
from segdsl.syntax.line_ends import NEWLINE, line_indent

Pattern = Callable[[Problem], Diagnostic | None]

_A_CHOICE = "a choice is a value: `x = if a then b else c`"
_PYTHON = {
    "def": "write a block: `block Name(channels: int) { … }`",
    "class": "write a block: `block Name(channels: int) { … }`",
    "return": "say what a block gives: `out y = …`",
    "for": "repeat with `-> Block() * n`, or make a list: `[… for x in xs]`",
    "while": "there are no open loops; repeat with `-> Block() * n`",
    "if": _A_CHOICE,
    "elif": _A_CHOICE,
    "else": _A_CHOICE,
    "from": 'bring names in with `import "file.seg"`',
    "print": "look at a program with `segdsl show` and `segdsl compile`",
    "var": "give a name with `let name = …`",
    "const": "give a name with `let name = …`",
}


def python_statement(p: Problem) -> Diagnostic | None:
    word = p.first.text
    if word not in _PYTHON or (p.at - p.start > 1 and p.found.kind != "COLON"):
        return None
    if p.at == p.start and p.first.kind not in ("FOR", "FROM", "IF", "ELSE"):
        return None
    return p.tell("foreign-statement", f"no statement begins with `{word}`", _PYTHON[word], at=p.first)


def header(p: Problem) -> Diagnostic | None:
    if p.found.kind == "SEG":
        help = "move `seg 1` to the top, before everything but comments"
        return p.tell("header-not-first", "`seg` is not the first statement of the file", help)
    if p.first.kind == "SEG" and p.expected == {"INT"}:
        return p.tell("bad-header", "after `seg` stands the version of the language", "write `seg 1`")
    if p.first.text.lower() == "seg" and p.start == 0 and p.at == 1:
        return p.tell("bad-header", f"the version of the language is no `{p.first.text}`", "write `seg 1`", at=p.first)
    return None


def missing_quotes(p: Problem) -> Diagnostic | None:
    if p.expected != {"STRING"} or p.found.kind in NOTHING:
        return None
    index = p.at
    while p.tokens[index + 1].kind not in NOTHING and p.glued(p.tokens[index], p.tokens[index + 1]):
        index += 1
    start, end = p.found.start, p.tokens[index].end
    path = "".join(t.text for t in p.tokens[p.at : index + 1])
    if '"' in path or "'" in path:
        return None
    path = path if path.endswith(".seg") else path + ".seg"
    return p.tell(
        "missing-quotes", f"after `{p.first.text}` stands a file in double quotes",
        f'write `{p.first.text} "{path}"`', fix=(start, end, f'"{path}"'),
    )  # fmt: skip


def wrong_place(p: Problem) -> Diagnostic | None:
    if p.at != p.start or p.found.kind not in _PLACES.get(p.level, ()):
        return None
    word = p.found.text
    if p.level == "statement":
        return p.tell("statement-misplaced", f"`{word}` stands only in a block or model",
                      "move it into one: `block Name() { … }`")  # fmt: skip
    return p.tell("statement-misplaced", f"`{word}` stands only outside of blocks and models",
                  "move it out, to the level of the file")  # fmt: skip


_PLACES = {
    "statement": ("IN", "OUT", "PARAM"),
    "block_statement": ("IMPORT", "EXTENDS", "BLOCK", "MODEL", "DROP"),
}


def section_in_block(p: Problem) -> Diagnostic | None:
    if p.level != "block_statement" or p.found.kind != "LBRACE" or p.has("EQUAL"):
        return None
    return p.tell("statement-misplaced", "a block has no sections", "end the block with `}` before the section")


def quoted_key(p: Problem) -> Diagnostic | None:
    if p.at != p.start or p.found.kind != "STRING":
        return None
    key = p.found.text[1:-1]
    fix = (p.found.start, p.found.end, key) if key.isidentifier() and key.isascii() else None
    return p.tell("quoted-key", "a key stands without quotes", f"write `{key if fix else 'key'} = …`", fix=fix)


def flow_without_source(p: Problem) -> Diagnostic | None:
    if p.found.kind != "ARROW" or "ARROW" in p.expected:
        return None
    openings = ("EQUAL", "ARROW", "LPAR", "LSQB", "COMMA")
    if p.at != p.start and "\n" not in p.found.trivia and p.before.kind not in openings:
        return None
    return p.tell("flow-without-source", "nothing flows into this `->`", "begin with what flows: `x -> …`")


def missing_parameters(p: Problem) -> Diagnostic | None:
    if p.found.kind != "LBRACE" or p.expected != {"LPAR"}:
        return None
    end = p.before.end
    message = f"`{p.first.text} {p.before.text}` has no parameters"
    return p.tell("missing-parameters", message, f"write `{p.before.text}()` when it takes none", fix=(end, end, "()"))


def missing_type(p: Problem) -> Diagnostic | None:
    if p.first.kind not in ("BLOCK", "MODEL") or p.expected != {"COLON"} or p.found.kind == "NAME":
        return None
    name = p.before.text
    message = f"the parameter `{name}` has no type"
    help = f"write `{name}: int`; types are int, float, bool, string, size, list and module"
    return p.tell("missing-type", message, help, at=p.before)


def missing_colon(p: Problem) -> Diagnostic | None:
    if "COLON" not in p.expected or p.before.kind != "NAME":
        return None
    if p.first.kind == "PARAM" and p.found.kind != "LSQB":
        name = p.before.text
        return p.tell("missing-colon", f"`param {name}` has no shape", f"write `param {name}: [C] = …`", at=p.before)
    head = p.first.kind in ("BLOCK", "MODEL")
    if p.found.kind != "LSQB" and p.found.text != "list" and not (head and p.found.kind == "NAME"):
        return None
    end = p.before.end
    what = "type" if head else "shape"
    message = f"there is no `:` between `{p.before.text}` and its {what}"
    return p.tell("missing-colon", message, f"write `{p.before.text}: …`", fix=(end, end, ":"))


def index_in_path(p: Problem) -> Diagnostic | None:
    if p.found.kind != "LSQB" or p.level == "block_statement" or p.has("EQUAL") or "DOT" not in p.expected:
        return None
    if p.after_value or p.before.kind != "NAME":
        return None
    help = "name what is to be changed: `data.train.augment.flip = …`"
    return p.tell("index-in-path", "a path is made of names, not of indices", help)


def dotted_binding(p: Problem) -> Diagnostic | None:
    if p.level != "block_statement" or p.found.kind != "EQUAL" or p.first.kind != "NAME":
        return None
    if any(t.kind not in ("NAME", "DOT") for t in p.tokens[p.start : p.at]) or p.at == p.start + 1:
        return None
    path = "".join(t.text for t in p.tokens[p.start : p.at])
    return p.tell("dotted-binding", f"`{path}` is a path; a block binds plain names", "write one name before the `=`",
                  at=p.first)  # fmt: skip


def double_equals(p: Problem) -> Diagnostic | None:
    if p.found.text != "==" or "EQUAL" not in p.expected:
        return None
    return p.tell("double-equals", "`==` compares; a value is bound with `=`", f"write `{p.before.text} = …`",
                  fix=(p.found.start, p.found.end, "="))  # fmt: skip


def call_as_statement(p: Problem) -> Diagnostic | None:
    if p.found.kind != "LPAR" or p.level == "block_statement" or not {"EQUAL", "LBRACE"} <= p.expected:
        return None
    message = f"`{p.before.text}(…)` is a value, and nothing takes it"
    kinds = [token.kind for token in p.tokens[: p.start]]
    key = "name" if kinds.count("LBRACE") > kinds.count("RBRACE") else "model"
    return p.tell("unused-value", message, f"give it to a key: `{key} = {p.before.text}(…)`", at=p.before)


def unused_value(p: Problem) -> Diagnostic | None:
    if p.level != "block_statement" or p.found.kind not in NOTHING or NEWLINE in p.expected:
        return None
    if "ARROW" not in p.expected or p.opener() is not None or not p.after_value or p.has("EQUAL"):
        return None
    if p.first.kind not in VALUE_STARTS and p.first.kind not in ("MINUS", "NOT", "IF"):
        return None
    help = "bind it, `y = …`, or give it out, `out y = …`"
    return p.tell("unused-value", "this value goes nowhere", help, at=p.first)


def missing_equals(p: Problem) -> Diagnostic | None:
    if "EQUAL" not in p.expected or p.has("EQUAL") or p.opener() is not None:
        return None
    if p.found.kind in NOTHING:
        return _missing_value(p)
    if p.found.kind not in VALUE_STARTS and p.found.kind not in ("ARROW", "MINUS", "IF", "NOT"):
        return None
    if p.found.kind == "LSQB" and "COLON" in p.expected:
        return None
    end = p.before.end
    return p.tell("missing-equals", f"there is no `=` between `{p.before.text}` and its value",
                  f"write `{p.before.text} = …`", fix=(end, end, " ="))  # fmt: skip


def lonely_keyword(p: Problem) -> Diagnostic | None:
    if p.at != p.start + 1 or p.found.kind not in NOTHING or p.first.text not in _FORMS:
        return None
    word = p.first.text
    return p.tell("missing-name", f"`{word}` stands alone on its line", f"write `{_FORMS[word]}`", at=p.first)


_FORMS = {
    "import": 'import "file.seg"', "extends": 'extends "file.seg"', "let": "let name = value", "drop": "drop path",
    "block": "block Name() { … }", "model": "model Name() { … }", "in": "in x", "out": "out y = value",
    "param": "param name: [C] = 0.0",
}  # fmt: skip


def option(p: Problem) -> Diagnostic | None:
    """What only a `--set` can get wrong: it holds exactly one change."""
    if p.level:
        return None
    if p.found.kind == NEWLINE or (p.found.kind == "COMMA" and p.opener() is None):
        return p.tell("option-form", "an option holds one change", "give `--set` once for each change")
    if p.at == p.start or (p.expected <= {"DOT", "EQUAL"} and p.found.kind in ("LBRACE", END)):
        help = "write `--set path=value` or `--set 'drop path'`"
        return p.tell("option-form", "this is no change of a program", help)
    return None


def _missing_value(p: Problem) -> Diagnostic | None:
    if p.first.kind not in ("NAME", "LET", "OUT", "PARAM"):
        return None
    text = p.before.text if p.first.kind == "NAME" else " ".join(t.text for t in p.tokens[p.start : p.start + 2])
    help = f"write `{text} = …`" + (", or `… { … }` for a section" if "LBRACE" in p.expected else "")
    end = p.before.end  # also where a `}` on a later line ends the statement
    return p.tell("missing-value", f"`{text}` has no value", help, at=p.found._replace(start=end, end=end))


def value_missing(p: Problem) -> Diagnostic | None:
    if p.before.kind != "EQUAL" or not p.value_expected or p.found.kind not in (*NOTHING, "COMMA", "RPAR", "RSQB"):
        return None
    return p.tell("missing-value", "nothing stands after `=`", "write the value on the same line", at=p.before)


def two_statements(p: Problem) -> Diagnostic | None:
    second = _second_statement(p)
    if second is None or p.opener() is not None:
        return None
    token = p.tokens[second]
    fix = (
        (token.start - len(token.trivia), token.start, "\n" + " " * line_indent(p.tokens, p.start))
        if not token.trivia.strip()
        else None
    )
    message = f"`{token.text}` begins a second statement on this line"
    return p.tell("two-statements", message, "write one statement on each line", at=token, fix=fix)


def _second_statement(p: Problem) -> int | None:
    """The index of the token that begins another statement in the line of the one that it follows."""
    if p.found.kind == "EQUAL" and p.before.kind == "NAME" and p.near(-2).kind in ("INT", "FLOAT") and p.has("EQUAL"):
        return p.at - 1
    if (NEWLINE not in p.expected and END not in p.expected) or p.found.kind in NOTHING:
        return None
    opens = p.near(1).kind in ("EQUAL", "DOT", "LBRACE", "ARROW") or p.before.kind == "RBRACE"
    if p.found.text in OPENING or (p.found.kind == "NAME" and opens) or p.first.kind == "SEG":
        return p.at
    return None


def stray_comma(p: Problem) -> Diagnostic | None:
    if p.found.kind != "COMMA" or p.opener() is not None:
        return None
    if p.near(1).kind in NOTHING:
        help = "remove it: the newline ends the statement"
        return p.tell("stray-comma", "no comma stands between statements", help, fix=(p.found.start, p.found.end, ""))
    help = "write one statement on each line; a list is written `[a, b]`"
    if p.two_integers:
        help = f"a size is written `{p.before.text}x{p.near(1).text}`, a list `[{p.before.text}, {p.near(1).text}]`"
    return p.tell("stray-comma", "a comma stands only inside `()` and `[]`", help)


STATEMENT_PATTERNS: tuple[Pattern, ...] = (
    option, python_statement, header, lonely_keyword, missing_quotes, wrong_place, section_in_block, quoted_key,
    flow_without_source, missing_parameters, missing_type, missing_colon, index_in_path, dotted_binding, double_equals,
    call_as_statement, unused_value, missing_equals, value_missing, two_statements, stray_comma,
)  # fmt: skip
