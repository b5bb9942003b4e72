"""Detection of mistakes in the form of statements: heads, keys, misplaced statements and line ends.

Each pattern returns a diagnostic if it recognizes the mistake, otherwise None.
"""

from __future__ import annotations

from collections.abc import Callable

from segdsl.diagnostics import Diagnostic
from segdsl.syntax.errors.parse_error import STATEMENT_ENDS, VALUE_STARTS, Problem
from segdsl.syntax.line_ends import NEWLINE, measure_line_indent
from segdsl.syntax.tokens import END, STATEMENT_KEYWORDS

_PYTHON_PACKAGES = """
    torch torchvision numpy np cv2 os sys math random json pathlib PIL albumentations timm mmseg mmengine mmcv segdsl
    lightning pytorch_lightning transformers ultralytics segmentation_models_pytorch smp monai tensorflow keras
"""
PYTHON_PACKAGES = frozenset(_PYTHON_PACKAGES.split())
"""What people import in Python."""

Pattern = Callable[[Problem], Diagnostic | None]

_CONDITIONAL_HELP = "write a conditional as a value: `x = if a then b else c`"
_PYTHON_HELP = {
    "def": "write a block: `block Name(channels: int) { … }`",
    "class": "write a block: `block Name(channels: int) { … }`",
    "return": "declare the output of a block with `out y = …`",
    "for": "repeat a step with `-> Block() * n`, or build a list with `[… for x in xs]`",
    "while": "repeat a step a fixed number of times with `-> Block() * n`",
    "if": _CONDITIONAL_HELP,
    "elif": _CONDITIONAL_HELP,
    "else": _CONDITIONAL_HELP,
    "from": 'import names with `import "file.seg"`',
    "print": "inspect a program with `segdsl show` or `segdsl compile`",
    "var": "name a value with `let name = …`",
    "const": "name a value with `let name = …`",
}


def detect_python_statement(p: Problem) -> Diagnostic | None:
    word = p.first.text
    if word not in _PYTHON_HELP or (p.position - p.start > 1 and p.token.kind != "COLON"):
        return None
    # Other words (`class`, `print`) are plain names, and a mistake only if what follows does not fit.
    if p.position == p.start and p.first.kind not in ("FOR", "FROM", "IF", "ELSE"):
        return None
    return p.diagnose(
        "foreign-statement", f"`{word}` is not a statement of this language", _PYTHON_HELP[word], token=p.first
    )


def detect_header_error(p: Problem) -> Diagnostic | None:
    if p.token.kind == "SEG":
        help = "move `seg 1` to the top of the file; only comments may come before it"
        return p.diagnose("header-not-first", "`seg` is not the first statement of the file", help)
    if p.first.kind == "SEG" and p.expected == {"INT"}:
        return p.diagnose("bad-header", "`seg` must be followed by the language version", "write `seg 1`")
    if p.first.text.lower() == "seg" and p.start == 0 and p.position == 1:
        return p.diagnose(
            "bad-header", f"expected lowercase `seg`, found `{p.first.text}`", "write `seg 1`", token=p.first
        )
    return None


def detect_missing_quotes(p: Problem) -> Diagnostic | None:
    if p.expected != {"STRING"} or p.token.kind in STATEMENT_ENDS:
        return None
    # An unquoted path is lexed as several tokens (`std / blocks . seg`): everything without a gap belongs to it.
    index = p.position
    while p.tokens[index + 1].kind not in STATEMENT_ENDS and p.are_adjacent(p.tokens[index], p.tokens[index + 1]):
        index += 1
    start, end = p.token.start, p.tokens[index].end
    path = "".join(t.text for t in p.tokens[p.position : index + 1])
    if '"' in path or "'" in path:
        return None
    if path in PYTHON_PACKAGES:
        message = f"`{path}` is a package of Python, and programs import files of their own language"
        return p.diagnose("missing-quotes", message, "remove this line; what a program needs is built in")
    path = path if path.endswith(".seg") else path + ".seg"
    return p.diagnose(
        "missing-quotes", f"`{p.first.text}` needs a file name in double quotes",
        f'write `{p.first.text} "{path}"`', fix=(start, end, f'"{path}"'),
    )  # fmt: skip


def detect_wrong_place(p: Problem) -> Diagnostic | None:
    if p.position != p.start or p.token.kind not in _KINDS_OUT_OF_PLACE.get(p.level, ()):
        return None
    word = p.token.text
    if p.level == "statement":
        return p.diagnose("statement-misplaced", f"`{word}` is only allowed inside a block or model",
                      "move it into a block: `block Name() { … }`")  # fmt: skip
    return p.diagnose("statement-misplaced", f"`{word}` is not allowed inside a block or model",
                  "move it to the top level of the file")  # fmt: skip


_KINDS_OUT_OF_PLACE = {
    "statement": ("IN", "OUT", "PARAM"),
    "block_statement": ("IMPORT", "EXTENDS", "BLOCK", "MODEL", "DROP"),
}


def detect_section_in_block(p: Problem) -> Diagnostic | None:
    if p.level != "block_statement" or p.token.kind != "LBRACE" or p.has_kind("EQUAL"):
        return None
    return p.diagnose("statement-misplaced", "a block cannot contain a section", "close the block with `}` before it")


def detect_quoted_key(p: Problem) -> Diagnostic | None:
    if p.position != p.start or p.token.kind != "STRING":
        return None
    key = p.token.text[1:-1]
    fix = (p.token.start, p.token.end, key) if key.isidentifier() and key.isascii() else None
    return p.diagnose("quoted-key", "keys are written without quotes", f"write `{key if fix else 'key'} = …`", fix=fix)


def detect_flow_without_source(p: Problem) -> Diagnostic | None:
    if p.token.kind != "ARROW" or "ARROW" in p.expected:
        return None
    openings = ("EQUAL", "ARROW", "LPAR", "LSQB", "COMMA")
    if p.position != p.start and "\n" not in p.token.trivia and p.previous.kind not in openings:
        return None
    return p.diagnose("flow-without-source", "this `->` has no source", "write the source in front of it: `x -> …`")


def detect_missing_parameters(p: Problem) -> Diagnostic | None:
    if p.token.kind != "LBRACE" or p.expected != {"LPAR"}:
        return None
    end = p.previous.end
    message = f"`{p.first.text} {p.previous.text}` has no parameter list"
    help = f"write `{p.previous.text}()` if it takes no parameters"
    return p.diagnose("missing-parameters", message, help, fix=(end, end, "()"))


def detect_missing_type(p: Problem) -> Diagnostic | None:
    if p.first.kind not in ("BLOCK", "MODEL") or p.expected != {"COLON"} or p.token.kind == "NAME":
        return None
    name = p.previous.text
    message = f"parameter `{name}` has no type"
    help = f"add a type, for example `{name}: int`; the types are int, float, bool, string, size, list and module"
    return p.diagnose("missing-type", message, help, token=p.previous)


def detect_missing_colon(p: Problem) -> Diagnostic | None:
    if "COLON" not in p.expected or p.previous.kind != "NAME":
        return None
    if p.first.kind == "PARAM" and p.token.kind != "LSQB":
        name = p.previous.text
        return p.diagnose(
            "missing-colon", f"`param {name}` has no shape", f"write `param {name}: [C] = …`", token=p.previous
        )
    head = p.first.kind in ("BLOCK", "MODEL")
    if p.token.kind != "LSQB" and p.token.text != "list" and not (head and p.token.kind == "NAME"):
        return None
    end = p.previous.end
    noun = "type" if head else "shape"
    message = f"missing `:` between `{p.previous.text}` and its {noun}"
    return p.diagnose("missing-colon", message, f"write `{p.previous.text}: …`", fix=(end, end, ":"))


def detect_index_in_path(p: Problem) -> Diagnostic | None:
    if p.token.kind != "LSQB" or p.level == "block_statement" or p.has_kind("EQUAL") or "DOT" not in p.expected:
        return None
    if p.has_value_before or p.previous.kind != "NAME":
        return None
    help = "refer to the item by name: `data.train.augment.flip = …`"
    return p.diagnose("index-in-path", "a path cannot contain an index", help)


def detect_dotted_binding(p: Problem) -> Diagnostic | None:
    if p.level != "block_statement" or p.token.kind != "EQUAL" or p.first.kind != "NAME":
        return None
    if any(t.kind not in ("NAME", "DOT") for t in p.tokens[p.start : p.position]) or p.position == p.start + 1:
        return None
    path = "".join(t.text for t in p.tokens[p.start : p.position])
    return p.diagnose("dotted-binding", f"a block cannot bind the path `{path}`", "use a single name before the `=`",
                  token=p.first)  # fmt: skip


def detect_double_equals(p: Problem) -> Diagnostic | None:
    if p.token.text != "==" or "EQUAL" not in p.expected:
        return None
    return p.diagnose("double-equals", "`==` compares values; use `=` to set one", f"write `{p.previous.text} = …`",
                  fix=(p.token.start, p.token.end, "="))  # fmt: skip


def detect_call_as_statement(p: Problem) -> Diagnostic | None:
    if p.token.kind != "LPAR" or p.level == "block_statement" or not {"EQUAL", "LBRACE"} <= p.expected:
        return None
    message = f"the value `{p.previous.text}(…)` is not used"
    # Inside a section only its author knows the key; at the top level a call is most likely the model.
    kinds = [token.kind for token in p.tokens[: p.start]]
    key = "name" if kinds.count("LBRACE") > kinds.count("RBRACE") else "model"
    return p.diagnose("unused-value", message, f"assign it to a key: `{key} = {p.previous.text}(…)`", token=p.previous)


def detect_unused_value(p: Problem) -> Diagnostic | None:
    if p.level != "block_statement" or p.token.kind not in STATEMENT_ENDS or NEWLINE in p.expected:
        return None
    if "ARROW" not in p.expected or p.find_opener() is not None or not p.has_value_before or p.has_kind("EQUAL"):
        return None
    if p.first.kind not in VALUE_STARTS and p.first.kind not in ("MINUS", "NOT", "IF"):
        return None
    help = "bind it with `y = …`, or make it an output with `out y = …`"
    return p.diagnose("unused-value", "this value is not used", help, token=p.first)


def detect_missing_equals(p: Problem) -> Diagnostic | None:
    if "EQUAL" not in p.expected or p.has_kind("EQUAL") or p.find_opener() is not None:
        return None
    if p.token.kind in STATEMENT_ENDS:
        return _diagnose_missing_value(p)
    if p.token.kind not in VALUE_STARTS and p.token.kind not in ("ARROW", "MINUS", "IF", "NOT"):
        return None
    if p.token.kind == "LSQB" and "COLON" in p.expected:
        return None
    end = p.previous.end
    return p.diagnose("missing-equals", f"missing `=` between `{p.previous.text}` and its value",
                  f"write `{p.previous.text} = …`", fix=(end, end, " ="))  # fmt: skip


def detect_lone_keyword(p: Problem) -> Diagnostic | None:
    if p.position != p.start + 1 or p.token.kind not in STATEMENT_ENDS or p.first.text not in _STATEMENT_FORMS:
        return None
    word = p.first.text
    return p.diagnose("missing-name", f"`{word}` is incomplete", f"write `{_STATEMENT_FORMS[word]}`", token=p.first)


_STATEMENT_FORMS = {
    "import": 'import "file.seg"', "extends": 'extends "file.seg"', "let": "let name = value", "drop": "drop path",
    "block": "block Name() { … }", "model": "model Name() { … }", "in": "in x", "out": "out y = value",
    "param": "param name: [C] = 0.0",
}  # fmt: skip


def detect_option_error(p: Problem) -> Diagnostic | None:
    """Detect mistakes that only a `--set` option can have: it takes exactly one change."""
    if p.level:
        return None
    if p.token.kind == NEWLINE or (p.token.kind == "COMMA" and p.find_opener() is None):
        return p.diagnose("option-form", "`--set` takes a single change", "repeat `--set` for each change")
    if p.position == p.start or (p.expected <= {"DOT", "EQUAL"} and p.token.kind in ("LBRACE", END)):
        help = "write `--set path=value` or `--set 'drop path'`"
        return p.diagnose("option-form", "this is not a valid `--set` option", help)
    return None


def _diagnose_missing_value(p: Problem) -> Diagnostic | None:
    if p.first.kind not in ("NAME", "LET", "OUT", "PARAM"):
        return None
    text = p.previous.text if p.first.kind == "NAME" else " ".join(t.text for t in p.tokens[p.start : p.start + 2])
    help = f"write `{text} = …`" + (", or `… { … }` for a section" if "LBRACE" in p.expected else "")
    # Point right behind the text, even where a `}` on a later line ends the statement.
    end = p.previous.end
    return p.diagnose("missing-value", f"`{text}` has no value", help, token=p.token._replace(start=end, end=end))


def detect_missing_value(p: Problem) -> Diagnostic | None:
    if (
        p.previous.kind != "EQUAL"
        or not p.needs_value
        or p.token.kind not in (*STATEMENT_ENDS, "COMMA", "RPAR", "RSQB")
    ):
        return None
    return p.diagnose("missing-value", "missing value after `=`", "write the value on the same line", token=p.previous)


def detect_two_statements(p: Problem) -> Diagnostic | None:
    second = _find_second_statement(p)
    if second is None or p.find_opener() is not None:
        return None
    token = p.tokens[second]
    # A comment between the statements would be cut by the fix, so there is none then.
    fix = (
        (token.start - len(token.trivia), token.start, "\n" + " " * measure_line_indent(p.tokens, p.start))
        if not token.trivia.strip()
        else None
    )
    message = f"`{token.text}` starts a second statement on the same line"
    return p.diagnose("two-statements", message, "write one statement per line", token=token, fix=fix)


def _find_second_statement(p: Problem) -> int | None:
    """Return the index of the token that starts another statement on the same line."""
    # `a = 1 b = 2`: `b` was read as the unit of 1, so the error shows only at the second `=`.
    if (
        p.token.kind == "EQUAL"
        and p.previous.kind == "NAME"
        and p.peek(-2).kind in ("INT", "FLOAT")
        and p.has_kind("EQUAL")
    ):
        return p.position - 1
    if (NEWLINE not in p.expected and END not in p.expected) or p.token.kind in STATEMENT_ENDS:
        return None
    opens = p.peek(1).kind in ("EQUAL", "DOT", "LBRACE", "ARROW") or p.previous.kind == "RBRACE"
    if p.token.text in STATEMENT_KEYWORDS or (p.token.kind == "NAME" and opens) or p.first.kind == "SEG":
        return p.position
    return None


def detect_stray_comma(p: Problem) -> Diagnostic | None:
    if p.token.kind != "COMMA" or p.find_opener() is not None:
        return None
    if p.peek(1).kind in STATEMENT_ENDS:
        help = "remove it; the newline ends the statement"
        return p.diagnose(
            "stray-comma", "unexpected comma after a statement", help, fix=(p.token.start, p.token.end, "")
        )
    help = "write one statement per line, or a list as `[a, b]`"
    if p.is_between_integers:
        help = (
            f"write a size as `{p.previous.text}x{p.peek(1).text}`, a list as `[{p.previous.text}, {p.peek(1).text}]`"
        )
    return p.diagnose("stray-comma", "commas are only allowed inside `()` and `[]`", help)


# Order matters: a pattern that needs more context comes before those that match any token in its place.
STATEMENT_PATTERNS: tuple[Pattern, ...] = (
    detect_option_error,
    detect_python_statement,
    detect_header_error,
    detect_lone_keyword,
    detect_missing_quotes,
    detect_wrong_place,
    detect_section_in_block,
    detect_quoted_key,
    detect_flow_without_source,
    detect_missing_parameters,
    detect_missing_type,
    detect_missing_colon,
    detect_index_in_path,
    detect_dotted_binding,
    detect_double_equals,
    detect_call_as_statement,
    detect_unused_value,
    detect_missing_equals,
    detect_missing_value,
    detect_two_statements,
    detect_stray_comma,
)
