"""Detection of mistakes inside values: operators, arguments, lists, conditionals and steps of flows."""

from __future__ import annotations

from dataclasses import replace

from segdsl.diagnostics import Diagnostic, Label
from segdsl.syntax.errors.diagnose_statements import Pattern
from segdsl.syntax.errors.parse_error import CLOSING_KINDS, KEYWORD_KINDS, STATEMENT_ENDS, VALUE_STARTS, Problem
from segdsl.syntax.line_ends import NEWLINE, measure_line_indent

_OPERATOR_KINDS = frozenset(
    {"PLUS", "MINUS", "STAR", "SLASH", "SLASHSLASH", "POWER", "COMPARE", "RANGE", "AND", "OR", "NOT", "ARROW"}
)


def detect_arrow_at_line_end(p: Problem) -> Diagnostic | None:
    if p.previous.kind != "ARROW" or p.token.kind != NEWLINE:
        return None
    arrow, after = p.previous, p.peek(1)
    if measure_line_indent(p.tokens, p.position + 1) <= measure_line_indent(p.tokens, p.start):
        return None
    # The fix moves the arrow to the next line, and takes the space in front of it along unless that holds a comment.
    low = arrow.start - len(arrow.trivia) if not arrow.trivia.strip() else arrow.start
    return p.diagnose(
        "arrow-at-line-end", "a line cannot end with `->`: the newline ends the statement",
        "move the `->` to the start of the next line", token=arrow, fix=(low, after.start, f"{after.trivia}-> "),
    )  # fmt: skip


def detect_trailing_operator(p: Problem) -> Diagnostic | None:
    if p.previous.kind not in _OPERATOR_KINDS or p.token.kind not in CLOSING_KINDS:
        return None
    text = p.previous.text
    if p.token.kind == NEWLINE:
        help = "continue on the same line, or put the whole value in parentheses to break the line"
        return p.diagnose("trailing-operator", f"missing value after `{text}` on this line", help, token=p.previous)
    return p.diagnose("trailing-operator", f"missing value after `{text}`", f"write a value, or remove `{text}`",
                  token=p.previous)  # fmt: skip


def detect_compound_operator(p: Problem) -> Diagnostic | None:
    """Detect `+=` and `=>`, which other languages have."""
    found, before = p.token, p.previous
    if found.kind == "EQUAL" and before.kind in _OPERATOR_KINDS and p.are_adjacent(before, found):
        help = "bind the new value to a new name: a name cannot be bound twice"
        return p.diagnose("augmented-assignment", f"`{before.text}=` is not supported", help, token=before)
    if found.kind == "EQUAL" and p.peek(1).text == ">" and p.are_adjacent(found, p.peek(1)):
        return p.diagnose("wrong-arrow", "`=>` is not an arrow", "write `->`",
                      fix=(found.start, p.peek(1).end, "->"))  # fmt: skip
    return None


def detect_comment_mark(p: Problem) -> Diagnostic | None:
    """Detect `// …` and `/* … */`, on their own line or behind a value."""
    mark = next((k for k in range(p.start, p.position + 1) if _begins_comment(p, k)), None)
    if mark is None or not (mark == p.start or (p.has_value_before and p.token.kind in VALUE_STARTS)):
        return None
    token = p.tokens[mark]
    fix = (token.start, token.end, "#") if token.text == "//" else None
    return p.diagnose("comment-mark", f"`{token.text}` does not start a comment", "start a comment with `#`",
                  token=token, fix=fix)  # fmt: skip


def _begins_comment(p: Problem, index: int) -> bool:
    token, after = p.tokens[index], p.tokens[min(index + 1, len(p.tokens) - 1)]
    return token.kind == "SLASHSLASH" or (token.kind == "SLASH" and after.kind in ("STAR", "POWER"))


def detect_bare_path(p: Problem) -> Diagnostic | None:
    """Detect a path without quotes: `root = ../data`."""
    if not p.needs_value or p.token.kind not in ("SLASH", "DOT", "RANGE"):
        return None
    last = p.position
    while p.tokens[last + 1].kind not in CLOSING_KINDS and p.are_adjacent(p.tokens[last], p.tokens[last + 1]):
        last += 1
    path = "".join(t.text for t in p.tokens[p.position : last + 1])
    if "/" not in path or '"' in path:
        return None
    return p.diagnose("missing-quotes", "a path must be a string in double quotes", f'write `"{path}"`',
                  fix=(p.token.start, p.tokens[last].end, f'"{path}"'))  # fmt: skip


def detect_equals_in_test(p: Problem) -> Diagnostic | None:
    if p.token.kind != "EQUAL" or "THEN" not in p.expected:
        return None
    return p.diagnose("equals-in-test", "`=` does not compare values", "write `==`",
                  fix=(p.token.start, p.token.end, "=="))  # fmt: skip


def detect_slice(p: Problem) -> Diagnostic | None:
    opener = p.find_opener()
    if p.token.kind != "COLON" or opener is None or p.tokens[opener].kind != "LSQB":
        return None
    help = "use `first`, `last`, `rest`, or `[xs[i] for i in range(a, b)]` to take part of a list"
    return p.diagnose("slice", "slices are not supported", help)


def detect_missing_then(p: Problem) -> Diagnostic | None:
    if "THEN" not in p.expected or not p.has_value_before:
        return None
    if p.token.kind == "COLON":
        return p.diagnose(
            "missing-then",
            "an `if` condition is followed by `then`, not `:`",
            "write `if a then b else c`",
            fix=(p.token.start, p.token.end, " then"),
        )
    if p.token.kind not in VALUE_STARTS and p.token.kind not in CLOSING_KINDS and p.token.kind != "ELSE":
        return None
    return p.diagnose("missing-then", "this `if` has no `then`", "write `if a then b else c`")


def detect_missing_else(p: Problem) -> Diagnostic | None:
    if "ELSE" not in p.expected:
        return None
    if p.token.text == "elif":
        return p.diagnose("missing-else", "`elif` is not supported", "write `else if`",
                      fix=(p.token.start, p.token.end, "else if"))  # fmt: skip
    if p.token.kind not in CLOSING_KINDS and p.token.kind not in ("FOR", "COLON"):
        return None
    return p.diagnose("missing-else", "this `if` has no `else`", "add the `else` branch: `if a then b else c`")


def detect_colon_for_equals(p: Problem) -> Diagnostic | None:
    if p.token.kind != "COLON" or "EQUAL" not in p.expected:
        return None
    end = p.peek(1).end if p.peek(1).kind == "EQUAL" else p.token.end
    low = p.previous.end if not p.token.trivia.strip() else p.token.start
    bound = _find_equals_after_note(p)
    if bound is not None:
        return p.diagnose("colon-for-equals", "a binding has no type or shape annotation; both are inferred",
                      f"write `{p.previous.text} = …`", fix=(low, bound, " ="))  # fmt: skip
    return p.diagnose("colon-for-equals", "`:` annotates a type or shape; use `=` to set a value",
                  f"write `{p.previous.text} = …`", fix=(low, end, " ="))  # fmt: skip


def _find_equals_after_note(p: Problem) -> int | None:
    """Return the end of the `=` that follows an annotation such as `y: [B, 16, H, W] = x`, or None."""
    depth = 0
    for token in p.tokens[p.position + 1 :]:
        depth += (token.kind in ("LSQB", "LPAR")) - (token.kind in ("RSQB", "RPAR"))
        if token.kind == "EQUAL" and not depth:
            return token.end if token is not p.peek(1) else None
        if token.kind in STATEMENT_ENDS or token.kind == "LBRACE" or depth < 0:
            return None
    return None


def detect_section_colon(p: Problem) -> Diagnostic | None:
    """Detect `train:` above indented lines, and `train: {`."""
    if p.token.kind != "COLON" or not {"EQUAL", "LBRACE"} <= p.expected:
        return None
    name = "".join(t.text for t in p.tokens[p.start : p.position])
    if p.peek(1).kind == "LBRACE":
        return p.diagnose("missing-brace", "unexpected `:` before `{`", f"write `{name} {{`",
                      fix=(p.token.start, p.token.end, ""))  # fmt: skip
    if p.peek(1).kind not in STATEMENT_ENDS:
        return None
    # YAML's block list: a dash on each of the next lines.
    if p.peek(2).kind == "MINUS":
        return p.diagnose("colon-for-equals", "lists with leading dashes are not supported", f"write `{name} = [a, b]`")
    help = f"write `{name} {{`, and close the section with `}}` on a line of its own"
    return p.diagnose("missing-brace", "a section starts with `{`, not with `:`", help)


def detect_chained_operator(p: Problem) -> Diagnostic | None:
    if not p.has_value_before or p.token.kind in p.expected:
        return None
    if p.token.kind == "COMPARE":
        first = next(t for t in reversed(p.tokens[p.start : p.position]) if t.kind == "COMPARE")
        help = "combine two comparisons: `a < b and b < c`"
        error = p.diagnose("chained-comparison", "comparisons cannot be chained", help)
        return replace(error, labels=(Label(p.locate_token(first), "first comparison"),))
    if p.token.kind == "RANGE":
        return p.diagnose("chained-range", "a range has exactly two ends", "write `low..high`")
    return None


def detect_comprehension_clause(p: Problem) -> Diagnostic | None:
    opener = p.find_opener()
    if opener is None or p.tokens[opener].kind != "LSQB" or not p.has_kind("FOR", opener):
        return None
    if p.token.kind == "IF":
        help = "choose the value of each element instead: `[if a then x else y for x in xs]`"
        return p.diagnose("comprehension-filter", "a comprehension cannot have an `if` filter", help)
    if p.token.kind == "FOR":
        help = "nest two comprehensions: `[[… for b in ys] for a in xs]`"
        return p.diagnose("comprehension-for", "a comprehension has only one `for`", help)
    return None


def detect_python_conditional(p: Problem) -> Diagnostic | None:
    if p.token.kind != "IF" or not p.has_value_before:
        return None
    return p.diagnose("trailing-if", "the condition comes before the value", "write `if condition then a else b`")


def detect_parenthesized_list(p: Problem) -> Diagnostic | None:
    opener = p.find_opener()
    if p.token.kind != "COMMA" or opener is None or not p.has_value_before or "COMMA" in p.expected:
        return None
    if p.tokens[opener].kind == "LPAR":
        help = "write a list as `[a, b]`"
        if p.is_between_integers and p.peek(-2).kind == "LPAR":
            first, second = p.previous.text, p.peek(1).text
            help = f"write a size as `{first}x{second}`, a list as `[{first}, {second}]`"
        error = p.diagnose("parenthesised-list", "`()` only groups a single value", help)
        return replace(error, labels=(Label(p.locate_token(p.tokens[opener]), "opened here"),))
    return p.diagnose("index-count", "an index must be a single integer", "index twice: `xs[i][j]`")


def detect_missing_comma(p: Problem) -> Diagnostic | None:
    opener = p.find_opener()
    if opener is None or "COMMA" not in p.expected or "IN" in p.expected:
        return None
    position = p.position
    # `a = 1 b = 2`: `b` was read as the unit of 1, so the error shows only at the second `=`.
    if p.token.kind == "EQUAL" and p.previous.kind == "NAME" and p.peek(-2).kind in ("INT", "FLOAT"):
        position = p.position - 1
    elif p.token.kind not in VALUE_STARTS and p.token.kind not in ("MINUS", "NOT", "IF"):
        return None
    left, right = p.tokens[position - 1], p.tokens[position]
    return p.diagnose("missing-comma", f"missing comma between `{left.text}` and `{right.text}`",
                  "add a `,` between them", token=right, fix=(left.end, left.end, ","))  # fmt: skip


def detect_brace_as_value(p: Problem) -> Diagnostic | None:
    if p.token.kind != "LBRACE" or not (p.needs_value or p.has_value_before):
        return None
    # Keys inside the braces show that a section was meant, not a dictionary or set.
    inside = p.peek(1).kind == "RBRACE" or p.peek(2).kind in ("EQUAL", "DOT", "LBRACE")
    inside = inside or (p.peek(1).kind, p.peek(2).kind) == ("NAME", "COLON")
    if p.previous.kind == "EQUAL" and p.level == "statement" and inside:
        gap = (p.peek(-2).end, p.previous.end, "")
        name = "".join(t.text for t in p.tokens[p.start : p.position - 1])
        return p.diagnose("brace-as-value", "a section is not a value", f"remove the `=`: `{name} {{ … }}`", fix=gap)
    return p.diagnose("brace-as-value", "`{}` encloses a section or block; it is not a value",
                  "write a list as `[a, b]`, or an argument as `name = value`")  # fmt: skip


def detect_misplaced_step_word(p: Problem) -> Diagnostic | None:
    if p.token.kind == "AS" and p.has_value_before:
        help = "bind a value with `name = …`, or name a step as in `x -> A() as a`"
        return p.diagnose("stray-as", "`as` can only name a step of a flow", help)
    if p.token.kind == "STAR" and p.peek(-2).kind == "AS":
        return p.diagnose(
            "repeat-after-name", "`* n` must come before the name of a step", "write `-> A() * n as name`"
        )
    if p.previous.text == "each" and p.previous.kind == "NAME" and p.token.kind == "NAME":
        return p.diagnose("stray-each", "`each` is only allowed after `->`", "write `xs -> each A()`", token=p.previous)
    return None


def detect_malformed_number(p: Problem) -> Diagnostic | None:
    if p.token.kind == "DOT" and p.needs_value and p.peek(1).kind == "INT":
        fixed = f"0.{p.peek(1).text}"
        return p.diagnose("bad-number", f"`.{p.peek(1).text}` is not a valid number", f"write `{fixed}`",
                      fix=(p.token.start, p.peek(1).end, fixed))  # fmt: skip
    number = p.peek(-2)
    if p.token.kind == "INT" and p.previous.text in ("x", "X") and number.kind == "INT":
        fixed = f"{number.text}x{p.token.text}"
        return p.diagnose("bad-number", "a size cannot contain spaces", f"write `{fixed}`", token=number,
                      fix=(number.start, p.token.end, fixed))  # fmt: skip
    if p.previous.kind == "DOT" and number.kind == "INT" and p.are_adjacent(number, p.previous):
        return p.diagnose(
            "bad-number",
            f"`{number.text}.` is not a valid number",
            f"write `{number.text}.0`",
            token=number,
            fix=(p.previous.end, p.previous.end, "0"),
        )
    return None


def detect_keyword_as_name(p: Problem) -> Diagnostic | None:
    if p.token.kind not in KEYWORD_KINDS or "NAME" not in p.expected or p.position == p.start:
        return None
    if p.peek(1).kind in VALUE_STARTS:
        return None
    return p.diagnose(
        "keyword-as-name", f"`{p.token.text}` is a keyword and cannot be a name here", "choose another name"
    )


def detect_empty_item(p: Problem) -> Diagnostic | None:
    """Detect a list of arguments or elements that begins with a comma or has two in a row."""
    if p.token.kind != "COMMA" or p.previous.kind not in ("COMMA", "LPAR", "LSQB"):
        return None
    return p.diagnose("stray-comma", "missing item before this comma", "remove the comma, or add the item",
                  fix=(p.token.start, p.token.end, ""))  # fmt: skip


FIRST_PATTERNS: tuple[Pattern, ...] = (detect_comment_mark, detect_compound_operator, detect_misplaced_step_word)
"""Patterns that must run before `detect_two_statements`, which would match their tokens too."""
VALUE_PATTERNS: tuple[Pattern, ...] = (
    detect_arrow_at_line_end,
    detect_trailing_operator,
    detect_malformed_number,
    detect_bare_path,
    detect_section_colon,
    detect_equals_in_test,
    detect_slice,
    detect_missing_then,
    detect_missing_else,
    detect_colon_for_equals,
    detect_chained_operator,
    detect_comprehension_clause,
    detect_python_conditional,
    detect_parenthesized_list,
    detect_brace_as_value,
    detect_empty_item,
    detect_missing_comma,
    detect_keyword_as_name,
)
