"""Detection of mistakes inside values: operators, arguments, lists, conditionals and steps of flows."""

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
    # The fix moves the arrow to the next line, and takes the space in front of it along unless that holds a comment.
    low = arrow.start - len(arrow.trivia) if not arrow.trivia.strip() else arrow.start
    return p.tell(
        "arrow-at-line-end", "a line cannot end with `->`: the newline ends the statement",
        "move the `->` to the start of the next line", at=arrow, fix=(low, after.start, f"{after.trivia}-> "),
    )  # fmt: skip


def trailing_operator(p: Problem) -> Diagnostic | None:
    if p.before.kind not in _OPERATORS or p.found.kind not in CLOSING:
        return None
    text = p.before.text
    if p.found.kind == NEWLINE:
        help = "continue on the same line, or put the whole value in parentheses to break the line"
        return p.tell("trailing-operator", f"missing value after `{text}` on this line", help, at=p.before)
    return p.tell("trailing-operator", f"missing value after `{text}`", f"write a value, or remove `{text}`",
                  at=p.before)  # fmt: skip


def compound_marks(p: Problem) -> Diagnostic | None:
    """Detect `+=` and `=>`, which other languages have."""
    found, before = p.found, p.before
    if found.kind == "EQUAL" and before.kind in _OPERATORS and p.glued(before, found):
        help = "bind the new value to a new name: a name cannot be bound twice"
        return p.tell("augmented-assignment", f"`{before.text}=` is not supported", help, at=before)
    if found.kind == "EQUAL" and p.near(1).text == ">" and p.glued(found, p.near(1)):
        return p.tell("wrong-arrow", "`=>` is not an arrow", "write `->`",
                      fix=(found.start, p.near(1).end, "->"))  # fmt: skip
    return None


def comment_mark(p: Problem) -> Diagnostic | None:
    """Detect `// …` and `/* … */`, on their own line or behind a value."""
    mark = next((k for k in range(p.start, p.at + 1) if _begins_comment(p, k)), None)
    if mark is None or not (mark == p.start or (p.after_value and p.found.kind in VALUE_STARTS)):
        return None
    token = p.tokens[mark]
    fix = (token.start, token.end, "#") if token.text == "//" else None
    return p.tell("comment-mark", f"`{token.text}` does not start a comment", "start a comment with `#`",
                  at=token, fix=fix)  # fmt: skip


def _begins_comment(p: Problem, index: int) -> bool:
    token, after = p.tokens[index], p.tokens[min(index + 1, len(p.tokens) - 1)]
    return token.kind == "SLASHSLASH" or (token.kind == "SLASH" and after.kind in ("STAR", "POWER"))


def bare_path(p: Problem) -> Diagnostic | None:
    """Detect a path without quotes: `root = ../data`."""
    if not p.value_expected or p.found.kind not in ("SLASH", "DOT", "RANGE"):
        return None
    last = p.at
    while p.tokens[last + 1].kind not in CLOSING and p.glued(p.tokens[last], p.tokens[last + 1]):
        last += 1
    path = "".join(t.text for t in p.tokens[p.at : last + 1])
    if "/" not in path or '"' in path:
        return None
    return p.tell("missing-quotes", "a path must be a string in double quotes", f'write `"{path}"`',
                  fix=(p.found.start, p.tokens[last].end, f'"{path}"'))  # fmt: skip


def equals_in_test(p: Problem) -> Diagnostic | None:
    if p.found.kind != "EQUAL" or "THEN" not in p.expected:
        return None
    return p.tell("equals-in-test", "`=` does not compare values", "write `==`",
                  fix=(p.found.start, p.found.end, "=="))  # fmt: skip


def slice_of_list(p: Problem) -> Diagnostic | None:
    opener = p.opener()
    if p.found.kind != "COLON" or opener is None or p.tokens[opener].kind != "LSQB":
        return None
    help = "use `first`, `last`, `rest`, or `[xs[i] for i in range(a, b)]` to take part of a list"
    return p.tell("slice", "slices are not supported", help)


def missing_then(p: Problem) -> Diagnostic | None:
    if "THEN" not in p.expected or not p.after_value:
        return None
    if p.found.kind == "COLON":
        return p.tell("missing-then", "an `if` condition is followed by `then`, not `:`", "write `if a then b else c`",
                      fix=(p.found.start, p.found.end, " then"))  # fmt: skip
    if p.found.kind not in VALUE_STARTS and p.found.kind not in CLOSING and p.found.kind != "ELSE":
        return None
    return p.tell("missing-then", "this `if` has no `then`", "write `if a then b else c`")


def missing_else(p: Problem) -> Diagnostic | None:
    if "ELSE" not in p.expected:
        return None
    if p.found.text == "elif":
        return p.tell("missing-else", "`elif` is not supported", "write `else if`",
                      fix=(p.found.start, p.found.end, "else if"))  # fmt: skip
    if p.found.kind not in CLOSING and p.found.kind not in ("FOR", "COLON"):
        return None
    return p.tell("missing-else", "this `if` has no `else`", "add the `else` branch: `if a then b else c`")


def colon_for_equals(p: Problem) -> Diagnostic | None:
    if p.found.kind != "COLON" or "EQUAL" not in p.expected:
        return None
    end = p.near(1).end if p.near(1).kind == "EQUAL" else p.found.end
    low = p.before.end if not p.found.trivia.strip() else p.found.start
    bound = _equals_after_note(p)
    if bound is not None:
        return p.tell("colon-for-equals", "a binding has no type or shape annotation; both are inferred",
                      f"write `{p.before.text} = …`", fix=(low, bound, " ="))  # fmt: skip
    return p.tell("colon-for-equals", "`:` annotates a type or shape; use `=` to set a value",
                  f"write `{p.before.text} = …`", fix=(low, end, " ="))  # fmt: skip


def _equals_after_note(p: Problem) -> int | None:
    """Return the end of the `=` that follows an annotation such as `y: [B, 16, H, W] = x`, or None."""
    depth = 0
    for token in p.tokens[p.at + 1 :]:
        depth += (token.kind in ("LSQB", "LPAR")) - (token.kind in ("RSQB", "RPAR"))
        if token.kind == "EQUAL" and not depth:
            return token.end if token is not p.near(1) else None
        if token.kind in NOTHING or token.kind == "LBRACE" or depth < 0:
            return None
    return None


def section_colon(p: Problem) -> Diagnostic | None:
    """Detect `train:` above indented lines, and `train: {`."""
    if p.found.kind != "COLON" or not {"EQUAL", "LBRACE"} <= p.expected:
        return None
    name = "".join(t.text for t in p.tokens[p.start : p.at])
    if p.near(1).kind == "LBRACE":
        return p.tell("missing-brace", "unexpected `:` before `{`", f"write `{name} {{`",
                      fix=(p.found.start, p.found.end, ""))  # fmt: skip
    if p.near(1).kind not in NOTHING:
        return None
    # YAML's block list: a dash on each of the next lines.
    if p.near(2).kind == "MINUS":
        return p.tell("colon-for-equals", "lists with leading dashes are not supported", f"write `{name} = [a, b]`")
    help = f"write `{name} {{`, and close the section with `}}` on a line of its own"
    return p.tell("missing-brace", "a section starts with `{`, not with `:`", help)


def chained(p: Problem) -> Diagnostic | None:
    if not p.after_value or p.found.kind in p.expected:
        return None
    if p.found.kind == "COMPARE":
        first = next(t for t in reversed(p.tokens[p.start : p.at]) if t.kind == "COMPARE")
        return p.tell(
            "chained-comparison", "comparisons cannot be chained", "combine two comparisons: `a < b and b < c`",
            labels=(Label(p.span(first), "first comparison"),),
        )  # fmt: skip
    if p.found.kind == "RANGE":
        return p.tell("chained-range", "a range has exactly two ends", "write `low..high`")
    return None


def in_comprehension(p: Problem) -> Diagnostic | None:
    opener = p.opener()
    if opener is None or p.tokens[opener].kind != "LSQB" or not p.has("FOR", opener):
        return None
    if p.found.kind == "IF":
        help = "choose the value of each element instead: `[if a then x else y for x in xs]`"
        return p.tell("comprehension-filter", "a comprehension cannot have an `if` filter", help)
    if p.found.kind == "FOR":
        help = "nest two comprehensions: `[[… for b in ys] for a in xs]`"
        return p.tell("comprehension-for", "a comprehension has only one `for`", help)
    return None


def python_conditional(p: Problem) -> Diagnostic | None:
    if p.found.kind != "IF" or not p.after_value:
        return None
    return p.tell("trailing-if", "the condition comes before the value", "write `if condition then a else b`")


def parenthesised_list(p: Problem) -> Diagnostic | None:
    opener = p.opener()
    if p.found.kind != "COMMA" or opener is None or not p.after_value or "COMMA" in p.expected:
        return None
    if p.tokens[opener].kind == "LPAR":
        help = "write a list as `[a, b]`"
        if p.two_integers and p.near(-2).kind == "LPAR":
            first, second = p.before.text, p.near(1).text
            help = f"write a size as `{first}x{second}`, a list as `[{first}, {second}]`"
        return p.tell("parenthesised-list", "`()` only groups a single value", help,
                      labels=(Label(p.span(p.tokens[opener]), "opened here"),))  # fmt: skip
    return p.tell("index-count", "an index must be a single integer", "index twice: `xs[i][j]`")


def missing_comma(p: Problem) -> Diagnostic | None:
    opener = p.opener()
    if opener is None or "COMMA" not in p.expected or "IN" in p.expected:
        return None
    position = p.at
    # `a = 1 b = 2`: `b` was read as the unit of 1, so the error shows only at the second `=`.
    if p.found.kind == "EQUAL" and p.before.kind == "NAME" and p.near(-2).kind in ("INT", "FLOAT"):
        position = p.at - 1
    elif p.found.kind not in VALUE_STARTS and p.found.kind not in ("MINUS", "NOT", "IF"):
        return None
    left, right = p.tokens[position - 1], p.tokens[position]
    return p.tell("missing-comma", f"missing comma between `{left.text}` and `{right.text}`",
                  "add a `,` between them", at=right, fix=(left.end, left.end, ","))  # fmt: skip


def brace_as_value(p: Problem) -> Diagnostic | None:
    if p.found.kind != "LBRACE" or not (p.value_expected or p.after_value):
        return None
    # Keys inside the braces show that a section was meant, not a dictionary or set.
    inside = p.near(1).kind == "RBRACE" or p.near(2).kind in ("EQUAL", "DOT", "LBRACE")
    inside = inside or (p.near(1).kind, p.near(2).kind) == ("NAME", "COLON")
    if p.before.kind == "EQUAL" and p.level == "statement" and inside:
        gap = (p.near(-2).end, p.before.end, "")
        name = "".join(t.text for t in p.tokens[p.start : p.at - 1])
        return p.tell("brace-as-value", "a section is not a value", f"remove the `=`: `{name} {{ … }}`", fix=gap)
    return p.tell("brace-as-value", "`{}` encloses a section or block; it is not a value",
                  "write a list as `[a, b]`, or an argument as `name = value`")  # fmt: skip


def misplaced_step_words(p: Problem) -> Diagnostic | None:
    if p.found.kind == "AS" and p.after_value:
        help = "bind a value with `name = …`, or name a step as in `x -> A() as a`"
        return p.tell("stray-as", "`as` can only name a step of a flow", help)
    if p.found.kind == "STAR" and p.near(-2).kind == "AS":
        return p.tell("repeat-after-name", "`* n` must come before the name of a step", "write `-> A() * n as name`")
    if p.before.text == "each" and p.before.kind == "NAME" and p.found.kind == "NAME":
        return p.tell("stray-each", "`each` is only allowed after `->`", "write `xs -> each A()`", at=p.before)
    return None


def number_forms(p: Problem) -> Diagnostic | None:
    if p.found.kind == "DOT" and p.value_expected and p.near(1).kind == "INT":
        fixed = f"0.{p.near(1).text}"
        return p.tell("bad-number", f"`.{p.near(1).text}` is not a valid number", f"write `{fixed}`",
                      fix=(p.found.start, p.near(1).end, fixed))  # fmt: skip
    number = p.near(-2)
    if p.found.kind == "INT" and p.before.text in ("x", "X") and number.kind == "INT":
        fixed = f"{number.text}x{p.found.text}"
        return p.tell("bad-number", "a size cannot contain spaces", f"write `{fixed}`", at=number,
                      fix=(number.start, p.found.end, fixed))  # fmt: skip
    if p.before.kind == "DOT" and number.kind == "INT" and p.glued(number, p.before):
        return p.tell("bad-number", f"`{number.text}.` is not a valid number", f"write `{number.text}.0`", at=number,
                      fix=(p.before.end, p.before.end, "0"))  # fmt: skip
    return None


def keyword_as_name(p: Problem) -> Diagnostic | None:
    if p.found.kind not in KEYWORD_KINDS or "NAME" not in p.expected or p.at == p.start:
        return None
    if p.near(1).kind in VALUE_STARTS:
        return None
    return p.tell("keyword-as-name", f"`{p.found.text}` is a keyword and cannot be a name here", "choose another name")


def nothing_left(p: Problem) -> Diagnostic | None:
    """Detect a list of arguments or elements that begins with a comma or has two in a row."""
    if p.found.kind != "COMMA" or p.before.kind not in ("COMMA", "LPAR", "LSQB"):
        return None
    return p.tell("stray-comma", "missing item before this comma", "remove the comma, or add the item",
                  fix=(p.found.start, p.found.end, ""))  # fmt: skip


FIRST_PATTERNS: tuple[Pattern, ...] = (comment_mark, compound_marks, misplaced_step_words)
"""Patterns that must run before `detect_two_statements`, which would match their tokens too."""
VALUE_PATTERNS: tuple[Pattern, ...] = (
    arrow_at_line_end, trailing_operator, number_forms, bare_path, section_colon, equals_in_test, slice_of_list,
    missing_then, missing_else, colon_for_equals, chained, in_comprehension, python_conditional, parenthesised_list,
    brace_as_value, nothing_left, missing_comma, keyword_as_name,
)  # fmt: skip
