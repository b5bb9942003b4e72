"""Detection of mistakes in the form of statements: heads, keys, misplaced statements and line ends.

Each pattern returns a diagnostic if it recognizes the mistake, otherwise None.
"""

from __future__ import annotations

from collections.abc import Callable

from segdsl.diagnostics import Diagnostic
from segdsl.syntax.errors.parse_error import NOTHING, VALUE_STARTS, Problem
from segdsl.syntax.lexer import END, OPENING
from segdsl.syntax.line_ends import NEWLINE, line_indent

Pattern = Callable[[Problem], Diagnostic | None]

_A_CHOICE = "write a conditional as a value: `x = if a then b else c`"
_PYTHON = {
    "def": "write a block: `block Name(channels: int) { … }`",
    "class": "write a block: `block Name(channels: int) { … }`",
    "return": "declare the output of a block with `out y = …`",
    "for": "repeat a step with `-> Block() * n`, or build a list with `[… for x in xs]`",
    "while": "repeat a step a fixed number of times with `-> Block() * n`",
    "if": _A_CHOICE,
    "elif": _A_CHOICE,
    "else": _A_CHOICE,
    "from": 'import names with `import "file.seg"`',
    "print": "inspect a program with `segdsl show` or `segdsl compile`",
    "var": "name a value with `let name = …`",
    "const": "name a value with `let name = …`",
}


def python_statement(p: Problem) -> Diagnostic | None:
    word = p.first.text
    if word not in _PYTHON or (p.at - p.start > 1 and p.found.kind != "COLON"):
        return None
    # Other words (`class`, `print`) are plain names, and a mistake only if what follows does not fit.
    if p.at == p.start and p.first.kind not in ("FOR", "FROM", "IF", "ELSE"):
        return None
    return p.tell("foreign-statement", f"`{word}` is not a statement of this language", _PYTHON[word], at=p.first)


def header(p: Problem) -> Diagnostic | None:
    if p.found.kind == "SEG":
        help = "move `seg 1` to the top of the file; only comments may come before it"
        return p.tell("header-not-first", "`seg` is not the first statement of the file", help)
    if p.first.kind == "SEG" and p.expected == {"INT"}:
        return p.tell("bad-header", "`seg` must be followed by the language version", "write `seg 1`")
    if p.first.text.lower() == "seg" and p.start == 0 and p.at == 1:
        return p.tell("bad-header", f"expected lowercase `seg`, found `{p.first.text}`", "write `seg 1`", at=p.first)
    return None


def missing_quotes(p: Problem) -> Diagnostic | None:
    if p.expected != {"STRING"} or p.found.kind in NOTHING:
        return None
    # An unquoted path is lexed as several tokens (`std / blocks . seg`): everything without a gap belongs to it.
    index = p.at
    while p.tokens[index + 1].kind not in NOTHING and p.glued(p.tokens[index], p.tokens[index + 1]):
        index += 1
    start, end = p.found.start, p.tokens[index].end
    path = "".join(t.text for t in p.tokens[p.at : index + 1])
    if '"' in path or "'" in path:
        return None
    path = path if path.endswith(".seg") else path + ".seg"
    return p.tell(
        "missing-quotes", f"`{p.first.text}` needs a file name in double quotes",
        f'write `{p.first.text} "{path}"`', fix=(start, end, f'"{path}"'),
    )  # fmt: skip


def wrong_place(p: Problem) -> Diagnostic | None:
    if p.at != p.start or p.found.kind not in _PLACES.get(p.level, ()):
        return None
    word = p.found.text
    if p.level == "statement":
        return p.tell("statement-misplaced", f"`{word}` is only allowed inside a block or model",
                      "move it into a block: `block Name() { … }`")  # fmt: skip
    return p.tell("statement-misplaced", f"`{word}` is not allowed inside a block or model",
                  "move it to the top level of the file")  # fmt: skip


_PLACES = {
    "statement": ("IN", "OUT", "PARAM"),
    "block_statement": ("IMPORT", "EXTENDS", "BLOCK", "MODEL", "DROP"),
}


def section_in_block(p: Problem) -> Diagnostic | None:
    if p.level != "block_statement" or p.found.kind != "LBRACE" or p.has("EQUAL"):
        return None
    return p.tell("statement-misplaced", "a block cannot contain a section", "close the block with `}` before it")


def quoted_key(p: Problem) -> Diagnostic | None:
    if p.at != p.start or p.found.kind != "STRING":
        return None
    key = p.found.text[1:-1]
    fix = (p.found.start, p.found.end, key) if key.isidentifier() and key.isascii() else None
    return p.tell("quoted-key", "keys are written without quotes", f"write `{key if fix else 'key'} = …`", fix=fix)


def flow_without_source(p: Problem) -> Diagnostic | None:
    if p.found.kind != "ARROW" or "ARROW" in p.expected:
        return None
    openings = ("EQUAL", "ARROW", "LPAR", "LSQB", "COMMA")
    if p.at != p.start and "\n" not in p.found.trivia and p.before.kind not in openings:
        return None
    return p.tell("flow-without-source", "this `->` has no source", "write the source in front of it: `x -> …`")


def missing_parameters(p: Problem) -> Diagnostic | None:
    if p.found.kind != "LBRACE" or p.expected != {"LPAR"}:
        return None
    end = p.before.end
    message = f"`{p.first.text} {p.before.text}` has no parameter list"
    help = f"write `{p.before.text}()` if it takes no parameters"
    return p.tell("missing-parameters", message, help, fix=(end, end, "()"))


def missing_type(p: Problem) -> Diagnostic | None:
    if p.first.kind not in ("BLOCK", "MODEL") or p.expected != {"COLON"} or p.found.kind == "NAME":
        return None
    name = p.before.text
    message = f"parameter `{name}` has no type"
    help = f"add a type, for example `{name}: int`; the types are int, float, bool, string, size, list and module"
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
    noun = "type" if head else "shape"
    message = f"missing `:` between `{p.before.text}` and its {noun}"
    return p.tell("missing-colon", message, f"write `{p.before.text}: …`", fix=(end, end, ":"))


def index_in_path(p: Problem) -> Diagnostic | None:
    if p.found.kind != "LSQB" or p.level == "block_statement" or p.has("EQUAL") or "DOT" not in p.expected:
        return None
    if p.after_value or p.before.kind != "NAME":
        return None
    help = "refer to the item by name: `data.train.augment.flip = …`"
    return p.tell("index-in-path", "a path cannot contain an index", help)


def dotted_binding(p: Problem) -> Diagnostic | None:
    if p.level != "block_statement" or p.found.kind != "EQUAL" or p.first.kind != "NAME":
        return None
    if any(t.kind not in ("NAME", "DOT") for t in p.tokens[p.start : p.at]) or p.at == p.start + 1:
        return None
    path = "".join(t.text for t in p.tokens[p.start : p.at])
    return p.tell("dotted-binding", f"a block cannot bind the path `{path}`", "use a single name before the `=`",
                  at=p.first)  # fmt: skip


def double_equals(p: Problem) -> Diagnostic | None:
    if p.found.text != "==" or "EQUAL" not in p.expected:
        return None
    return p.tell("double-equals", "`==` compares values; use `=` to set one", f"write `{p.before.text} = …`",
                  fix=(p.found.start, p.found.end, "="))  # fmt: skip


def call_as_statement(p: Problem) -> Diagnostic | None:
    if p.found.kind != "LPAR" or p.level == "block_statement" or not {"EQUAL", "LBRACE"} <= p.expected:
        return None
    message = f"the value `{p.before.text}(…)` is not used"
    # Inside a section only its author knows the key; at the top level a call is most likely the model.
    kinds = [token.kind for token in p.tokens[: p.start]]
    key = "name" if kinds.count("LBRACE") > kinds.count("RBRACE") else "model"
    return p.tell("unused-value", message, f"assign it to a key: `{key} = {p.before.text}(…)`", at=p.before)


def unused_value(p: Problem) -> Diagnostic | None:
    if p.level != "block_statement" or p.found.kind not in NOTHING or NEWLINE in p.expected:
        return None
    if "ARROW" not in p.expected or p.opener() is not None or not p.after_value or p.has("EQUAL"):
        return None
    if p.first.kind not in VALUE_STARTS and p.first.kind not in ("MINUS", "NOT", "IF"):
        return None
    help = "bind it with `y = …`, or make it an output with `out y = …`"
    return p.tell("unused-value", "this value is not used", help, at=p.first)


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
    return p.tell("missing-equals", f"missing `=` between `{p.before.text}` and its value",
                  f"write `{p.before.text} = …`", fix=(end, end, " ="))  # fmt: skip


def lonely_keyword(p: Problem) -> Diagnostic | None:
    if p.at != p.start + 1 or p.found.kind not in NOTHING or p.first.text not in _FORMS:
        return None
    word = p.first.text
    return p.tell("missing-name", f"`{word}` is incomplete", f"write `{_FORMS[word]}`", at=p.first)


_FORMS = {
    "import": 'import "file.seg"', "extends": 'extends "file.seg"', "let": "let name = value", "drop": "drop path",
    "block": "block Name() { … }", "model": "model Name() { … }", "in": "in x", "out": "out y = value",
    "param": "param name: [C] = 0.0",
}  # fmt: skip


def option(p: Problem) -> Diagnostic | None:
    """Detect mistakes that only a `--set` option can have: it takes exactly one change."""
    if p.level:
        return None
    if p.found.kind == NEWLINE or (p.found.kind == "COMMA" and p.opener() is None):
        return p.tell("option-form", "`--set` takes a single change", "repeat `--set` for each change")
    if p.at == p.start or (p.expected <= {"DOT", "EQUAL"} and p.found.kind in ("LBRACE", END)):
        help = "write `--set path=value` or `--set 'drop path'`"
        return p.tell("option-form", "this is not a valid `--set` option", help)
    return None


def _missing_value(p: Problem) -> Diagnostic | None:
    if p.first.kind not in ("NAME", "LET", "OUT", "PARAM"):
        return None
    text = p.before.text if p.first.kind == "NAME" else " ".join(t.text for t in p.tokens[p.start : p.start + 2])
    help = f"write `{text} = …`" + (", or `… { … }` for a section" if "LBRACE" in p.expected else "")
    # Point right behind the text, even where a `}` on a later line ends the statement.
    end = p.before.end
    return p.tell("missing-value", f"`{text}` has no value", help, at=p.found._replace(start=end, end=end))


def value_missing(p: Problem) -> Diagnostic | None:
    if p.before.kind != "EQUAL" or not p.value_expected or p.found.kind not in (*NOTHING, "COMMA", "RPAR", "RSQB"):
        return None
    return p.tell("missing-value", "missing value after `=`", "write the value on the same line", at=p.before)


def two_statements(p: Problem) -> Diagnostic | None:
    second = _second_statement(p)
    if second is None or p.opener() is not None:
        return None
    token = p.tokens[second]
    # A comment between the statements would be cut by the fix, so there is none then.
    fix = (
        (token.start - len(token.trivia), token.start, "\n" + " " * line_indent(p.tokens, p.start))
        if not token.trivia.strip()
        else None
    )
    message = f"`{token.text}` starts a second statement on the same line"
    return p.tell("two-statements", message, "write one statement per line", at=token, fix=fix)


def _second_statement(p: Problem) -> int | None:
    """Return the index of the token that starts another statement on the same line."""
    # `a = 1 b = 2`: `b` was read as the unit of 1, so the error shows only at the second `=`.
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
        help = "remove it; the newline ends the statement"
        return p.tell("stray-comma", "unexpected comma after a statement", help, fix=(p.found.start, p.found.end, ""))
    help = "write one statement per line, or a list as `[a, b]`"
    if p.two_integers:
        help = f"write a size as `{p.before.text}x{p.near(1).text}`, a list as `[{p.before.text}, {p.near(1).text}]`"
    return p.tell("stray-comma", "commas are only allowed inside `()` and `[]`", help)


# Order matters: a pattern that needs more context comes before those that match any token in its place.
STATEMENT_PATTERNS: tuple[Pattern, ...] = (
    option, python_statement, header, lonely_keyword, missing_quotes, wrong_place, section_in_block, quoted_key,
    flow_without_source, missing_parameters, missing_type, missing_colon, index_in_path, dotted_binding, double_equals,
    call_as_statement, unused_value, missing_equals, value_missing, two_statements, stray_comma,
)  # fmt: skip
