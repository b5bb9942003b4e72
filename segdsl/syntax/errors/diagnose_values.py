"""Mistakes inside values: operators, arguments, lists, choices and steps of flows."""

from __future__ import annotations

from segdsl.diagnostics import Diagnostic, Label
from segdsl.syntax.errors.diagnose_statements import Pattern
from segdsl.syntax.errors.parse_error import CLOSING, KEYWORD_KINDS, NOTHING, VALUE_STARTS, Problem
from segdsl.syntax.line_ends import NEWLINE, line_indent

_OPERATORS = frozenset(
    {"PLUS", "MINUS", "STAR", "SLASH", "SLASHSLASH", "POWER", "COMPARE", "RANGE", "AND", "OR", "NOT", "ARROW"}
)


def arrow_at_line_end(p: Problem) -> Diagnostic | None:
    if p.before.kind != "ARROW" or p.found.kind != NEWLINE:
        return None
    arrow, after = p.before, p.near(1)
    if line_indent(p.tokens, p.at + 1) <= line_indent(p.tokens, p.start):
        return None
    low = arrow.start - len(arrow.trivia) if not arrow.trivia.strip() else arrow.start
    return p.tell(
        "arrow-at-line-end", "the line ends after `->`, and a newline ends a statement",
        "begin the next line with the `->`", at=arrow, fix=(low, after.start, f"{after.trivia}-> "),
    )  # fmt: skip


def trailing_operator(p: Problem) -> Diagnostic | None:
    if p.before.kind not in _OPERATORS or p.found.kind not in CLOSING:
        return None
    text = p.before.text
    if p.found.kind == NEWLINE:
        help = "go on in the same line, or put the whole value in parentheses: inside `()` lines may break"
        return p.tell("trailing-operator", f"nothing stands after `{text}` on its line", help, at=p.before)
    return p.tell("trailing-operator", f"nothing stands after `{text}`", "write the other side, or remove it",
                  at=p.before)  # fmt: skip


def compound_marks(p: Problem) -> Diagnostic | None:
    """`+=`, `:=`, `=>`: marks that other languages have."""
    found, before = p.found, p.before
    if found.kind == "EQUAL" and before.kind in _OPERATORS and p.glued(before, found):
        help = "names are bound once: give the new value a new name"
        return p.tell("augmented-assignment", f"`{before.text}=` does not exist here", help, at=before)
    if found.kind == "EQUAL" and p.near(1).text == ">" and p.glued(found, p.near(1)):
        return p.tell("wrong-arrow", "`=>` is no arrow", "a flow is written `->`",
                      fix=(found.start, p.near(1).end, "->"))  # fmt: skip
    return None


def comment_mark(p: Problem) -> Diagnostic | None:
    """`// …` and `/* … */`, on a line of their own or behind a value."""
    mark = next((k for k in range(p.start, p.at + 1) if _begins_comment(p, k)), None)
    if mark is None or not (mark == p.start or (p.after_value and p.found.kind in VALUE_STARTS)):
        return None
    token = p.tokens[mark]
    fix = (token.start, token.end, "#") if token.text == "//" else None
    return p.tell("comment-mark", f"`{token.text}` divides; it begins no comment", "a comment begins with `#`",
                  at=token, fix=fix)  # fmt: skip


def _begins_comment(p: Problem, index: int) -> bool:
    token, after = p.tokens[index], p.tokens[min(index + 1, len(p.tokens) - 1)]
    return token.kind == "SLASHSLASH" or (token.kind == "SLASH" and after.kind in ("STAR", "POWER"))


def bare_path(p: Problem) -> Diagnostic | None:
    """`root = ../data`: a path without quotes."""
    if not p.value_expected or p.found.kind not in ("SLASH", "DOT", "RANGE"):
        return None
    last = p.at
    while p.tokens[last + 1].kind not in CLOSING and p.glued(p.tokens[last], p.tokens[last + 1]):
        last += 1
    path = "".join(t.text for t in p.tokens[p.at : last + 1])
    if "/" not in path or '"' in path:
        return None
    return p.tell("missing-quotes", "a path is a text, and texts stand in double quotes", f'write `"{path}"`',
                  fix=(p.found.start, p.tokens[last].end, f'"{path}"'))  # fmt: skip


def equals_in_test(p: Problem) -> Diagnostic | None:
    if p.found.kind != "EQUAL" or "THEN" not in p.expected:
        return None
    return p.tell("equals-in-test", "`=` binds a name; it compares nothing", "write `==`",
                  fix=(p.found.start, p.found.end, "=="))  # fmt: skip


def slice_of_list(p: Problem) -> Diagnostic | None:
    opener = p.opener()
    if p.found.kind != "COLON" or opener is None or p.tokens[opener].kind != "LSQB":
        return None
    help = "take parts of a list with `first`, `last`, `rest`, or `[xs[i] for i in range(a, b)]`"
    return p.tell("slice", "there are no slices", help)


def missing_then(p: Problem) -> Diagnostic | None:
    if "THEN" not in p.expected or not p.after_value:
        return None
    if p.found.kind == "COLON":
        return p.tell("missing-then", "after the test of an `if` stands `then`, no `:`", "write `if a then b else c`",
                      fix=(p.found.start, p.found.end, " then"))  # fmt: skip
    if p.found.kind not in VALUE_STARTS and p.found.kind not in CLOSING and p.found.kind != "ELSE":
        return None
    return p.tell("missing-then", "this `if` has no `then`", "write `if a then b else c`")


def missing_else(p: Problem) -> Diagnostic | None:
    if "ELSE" not in p.expected:
        return None
    if p.found.text == "elif":
        return p.tell("missing-else", "`elif` does not exist here", "write `else if`",
                      fix=(p.found.start, p.found.end, "else if"))  # fmt: skip
    if p.found.kind not in CLOSING and p.found.kind not in ("FOR", "COLON"):
        return None
    return p.tell("missing-else", "this `if` has no `else`", "a choice always has two sides: `if a then b else c`")


def colon_for_equals(p: Problem) -> Diagnostic | None:
    if p.found.kind != "COLON" or "EQUAL" not in p.expected:
        return None
    end = p.near(1).end if p.near(1).kind == "EQUAL" else p.found.end
    low = p.before.end if not p.found.trivia.strip() else p.found.start
    bound = _equals_after_note(p)
    if bound is not None:
        return p.tell("colon-for-equals", "a binding states no type or shape; they follow from its value",
                      f"write `{p.before.text} = …`", fix=(low, bound, " ="))  # fmt: skip
    return p.tell("colon-for-equals", "`:` states a type or shape; a value is bound with `=`",
                  f"write `{p.before.text} = …`", fix=(low, end, " ="))  # fmt: skip


def _equals_after_note(p: Problem) -> int | None:
    """The end of the `=` that follows what stands behind a `:`, such as `y: [B, 16, H, W] = x`; None without one."""
    depth = 0
    for token in p.tokens[p.at + 1 :]:
        depth += (token.kind in ("LSQB", "LPAR")) - (token.kind in ("RSQB", "RPAR"))
        if token.kind == "EQUAL" and not depth:
            return token.end if token is not p.near(1) else None
        if token.kind in NOTHING or token.kind == "LBRACE" or depth < 0:
            return None
    return None


def section_colon(p: Problem) -> Diagnostic | None:
    """`train:` above what is indented, and `train: {`."""
    if p.found.kind != "COLON" or not {"EQUAL", "LBRACE"} <= p.expected:
        return None
    name = "".join(t.text for t in p.tokens[p.start : p.at])
    if p.near(1).kind == "LBRACE":
        return p.tell("missing-brace", "no `:` stands in front of a `{`", f"write `{name} {{`",
                      fix=(p.found.start, p.found.end, ""))  # fmt: skip
    if p.near(1).kind not in NOTHING:
        return None
    if p.near(2).kind == "MINUS":
        return p.tell("colon-for-equals", "a list is no column of dashes", f"write `{name} = [a, b]`")
    help = f"write `{name} {{`, and `}}` on a line of its own below what belongs to it"
    return p.tell("missing-brace", "a section is opened with `{`, not with `:`", help)


def chained(p: Problem) -> Diagnostic | None:
    if not p.after_value or p.found.kind in p.expected:
        return None
    if p.found.kind == "COMPARE":
        first = next(t for t in reversed(p.tokens[p.start : p.at]) if t.kind == "COMPARE")
        return p.tell(
            "chained-comparison", "comparisons do not chain", "join two: `a < b and b < c`",
            labels=(Label(p.span(first), "the first one"),),
        )  # fmt: skip
    if p.found.kind == "RANGE":
        return p.tell("chained-range", "a range has two ends", "write `low..high`")
    return None


def in_comprehension(p: Problem) -> Diagnostic | None:
    opener = p.opener()
    if opener is None or p.tokens[opener].kind != "LSQB" or not p.has("FOR", opener):
        return None
    if p.found.kind == "IF":
        help = "choose what an element is instead: `[if a then x else y for x in xs]`"
        return p.tell("comprehension-filter", "a list takes every element; it has no filter", help)
    if p.found.kind == "FOR":
        help = "nest two lists: `[[… for b in ys] for a in xs]`"
        return p.tell("comprehension-for", "a list has one `for`", help)
    return None


def python_conditional(p: Problem) -> Diagnostic | None:
    if p.found.kind != "IF" or not p.after_value:
        return None
    return p.tell("trailing-if", "the test of a choice stands in front", "write `if test then a else b`")


def parenthesised_list(p: Problem) -> Diagnostic | None:
    opener = p.opener()
    if p.found.kind != "COMMA" or opener is None or not p.after_value or "COMMA" in p.expected:
        return None
    if p.tokens[opener].kind == "LPAR":
        help = "a list is written `[a, b]`"
        if p.two_integers and p.near(-2).kind == "LPAR":
            help = f"a size is written `{p.before.text}x{p.near(1).text}`, a list `[{p.before.text}, {p.near(1).text}]`"
        return p.tell("parenthesised-list", "`()` groups one value; it makes no list", help,
                      labels=(Label(p.span(p.tokens[opener]), "opened here"),))  # fmt: skip
    return p.tell("index-count", "an index is one whole number", "take an element of an element: `xs[i][j]`")


def missing_comma(p: Problem) -> Diagnostic | None:
    opener = p.opener()
    if opener is None or "COMMA" not in p.expected or "IN" in p.expected:
        return None
    place = p.at
    if p.found.kind == "EQUAL" and p.before.kind == "NAME" and p.near(-2).kind in ("INT", "FLOAT"):
        place = p.at - 1  # `a = 1 b = 2`: the second name was taken for a unit
    elif p.found.kind not in VALUE_STARTS and p.found.kind not in ("MINUS", "NOT", "IF"):
        return None
    left, right = p.tokens[place - 1], p.tokens[place]
    return p.tell("missing-comma", f"there is no comma between `{left.text}` and `{right.text}`",
                  "put a `,` between them", at=right, fix=(left.end, left.end, ","))  # fmt: skip


def brace_as_value(p: Problem) -> Diagnostic | None:
    if p.found.kind != "LBRACE" or not (p.value_expected or p.after_value):
        return None
    inside = p.near(1).kind == "RBRACE" or p.near(2).kind in ("EQUAL", "DOT", "LBRACE")
    inside = inside or (p.near(1).kind, p.near(2).kind) == ("NAME", "COLON")
    if p.before.kind == "EQUAL" and p.level == "statement" and inside:
        gap = (p.near(-2).end, p.before.end, "")
        name = "".join(t.text for t in p.tokens[p.start : p.at - 1])
        return p.tell("brace-as-value", "a section is no value", f"write it without the `=`: `{name} {{ … }}`", fix=gap)
    return p.tell("brace-as-value", "`{}` holds the statements of a section or block, no value",
                  "a list is written `[a, b]`, an argument `name = value`")  # fmt: skip


def misplaced_step_words(p: Problem) -> Diagnostic | None:
    if p.found.kind == "AS" and p.after_value:
        help = "bind a value with `name = …`; a step is named so: `x -> A() as a`"
        return p.tell("stray-as", "`as` names a step of a flow", help)
    if p.found.kind == "STAR" and p.near(-2).kind == "AS":
        return p.tell("repeat-after-name", "`* n` stands before the name of a step", "write `-> A() * n as name`")
    if p.before.text == "each" and p.before.kind == "NAME" and p.found.kind == "NAME":
        return p.tell("stray-each", "`each` stands only after `->`", "write `xs -> each A()`", at=p.before)
    return None


def number_forms(p: Problem) -> Diagnostic | None:
    if p.found.kind == "DOT" and p.value_expected and p.near(1).kind == "INT":
        right = f"0.{p.near(1).text}"
        return p.tell("bad-number", f"`.{p.near(1).text}` is no number", f"write `{right}`",
                      fix=(p.found.start, p.near(1).end, right))  # fmt: skip
    number = p.near(-2)
    if p.found.kind == "INT" and p.before.text in ("x", "X") and number.kind == "INT":
        right = f"{number.text}x{p.found.text}"
        return p.tell("bad-number", "a size has no blanks inside", f"write `{right}`", at=number,
                      fix=(number.start, p.found.end, right))  # fmt: skip
    if p.before.kind == "DOT" and number.kind == "INT" and p.glued(number, p.before):
        return p.tell("bad-number", f"`{number.text}.` is no number", f"write `{number.text}.0`", at=number,
                      fix=(p.before.end, p.before.end, "0"))  # fmt: skip
    return None


def keyword_as_name(p: Problem) -> Diagnostic | None:
    if p.found.kind not in KEYWORD_KINDS or "NAME" not in p.expected or p.at == p.start:
        return None
    if p.near(1).kind in VALUE_STARTS:
        return None
    return p.tell("keyword-as-name", f"`{p.found.text}` is a keyword here, no name", "choose another name")


def nothing_left(p: Problem) -> Diagnostic | None:
    """A list of arguments or elements that begins with a comma, or has two in a row."""
    if p.found.kind != "COMMA" or p.before.kind not in ("COMMA", "LPAR", "LSQB"):
        return None
    return p.tell("stray-comma", "nothing stands in front of this comma", "remove it, or write what is missing",
                  fix=(p.found.start, p.found.end, ""))  # fmt: skip


FIRST_PATTERNS: tuple[Pattern, ...] = (comment_mark, compound_marks, misplaced_step_words)
"""Those that must come before two statements on one line are thought of."""
VALUE_PATTERNS: tuple[Pattern, ...] = (
    arrow_at_line_end, trailing_operator, number_forms, bare_path, section_colon, equals_in_test, slice_of_list,
    missing_then, missing_else, colon_for_equals, chained, in_comprehension, python_conditional, parenthesised_list,
    brace_as_value, nothing_left, missing_comma, keyword_as_name,
)  # fmt: skip
