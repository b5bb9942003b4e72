"""Highlighting rules, shared by the TextMate grammar and the Pygments lexer.

Rules are tried in order and the first match wins. Patterns use only syntax that Python's `re` and Oniguruma share, and
match within one line.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

INHERIT_SCOPE = ""
"""The scope of text that inherits the scope of its region."""


class Rule(NamedTuple):
    """Scopes for text that matches ``pattern``: one for all of it, or one per group if groups cover the whole match.

    The scope of whitespace is None.
    """

    pattern: str
    scopes: tuple[str | None, ...]


class Region(NamedTuple):
    """Text from ``begin`` to ``end`` with scope ``scope``, matched by the rules of context ``inner``."""

    begin: Rule
    end: Rule
    inner: str
    scope: str | None = None


class Include(NamedTuple):
    """A reference that inserts all rules of another context."""

    context: str


Entry = Rule | Region | Include
Table = dict[str, tuple[Entry, ...]]
"""Contexts by name; files start in the context `file`."""

ID = "[A-Za-z_][A-Za-z0-9_]*"
BLANKS = "([ \t]+)"
OPTIONAL_BLANKS = "([ \t]*)"
WORD_END = "(?![A-Za-z0-9_])"
EQUALS_SIGN = "[ \t]*=(?!=)"
NUMBER = r"[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|[0-9]+"
# Without this, one unclosed brace in an editor would miscolor the rest of the file.
NEXT_DEFINITION = r"(?=^(?:block|model|import|extends)[ \t])"
"""Ends a block without closing brace: the next definition."""
RECOVERY = rf"(?=[{{}}])|{NEXT_DEFINITION}"
"""Ends an unclosed bracket: a brace, which the language does not allow inside brackets, or the next definition."""

KEYWORD_SCOPES = {
    "seg": "keyword.other.header",
    **dict.fromkeys(("import", "extends"), "keyword.control.import"),
    **dict.fromkeys(("block", "model"), "storage.type.component"),
    **dict.fromkeys(("let", "in", "out", "param"), "storage.type.binding"),
    "drop": "keyword.other.drop",
    **dict.fromkeys(("if", "then", "else"), "keyword.control.conditional"),
    **dict.fromkeys(("for", "from", "each"), "keyword.control.loop"),
    "as": "keyword.control.as",
    **dict.fromkeys(("and", "or", "not"), "keyword.operator.logical"),
    **dict.fromkeys(("true", "false", "none"), "constant.language"),
}
"""The scope of each keyword of the lexer. (`in` of a comprehension gets the scope of loops instead.)"""
PROPERTIES = ("channels", "height", "width", "length", "shape")
"""Properties of tensors and sizes."""

KEY_SCOPE = "variable.other.key"
ARGUMENT_SCOPE = "variable.parameter"
SECTION_SCOPE = "entity.name.section"
MEMBER_SCOPE = "support.constant.member"
ASSIGN_SCOPE = "keyword.operator.assignment"
DECLARATION_SCOPE = "variable.other.declaration"
ACCESSOR_SCOPE = "punctuation.accessor"


def build_alternation(names: Iterable[str]) -> str:
    """Return a pattern that matches any of the names."""
    # Longest first: regular expressions take the first alternative that matches, not the longest.
    return "(?:" + "|".join(re.escape(n) for n in sorted(names, key=lambda n: (-len(n), n))) + ")"


@lru_cache(maxsize=1)
def build_rule_table() -> Table:
    """Return all contexts. Imports the registry of words, but neither torch nor Pygments."""
    return {
        "file": (
            Include("text"),
            *_build_statement_heads("header", "import", "drop", "binding"),
            *_build_component_regions(),
            *_build_choice_rules(KEY_SCOPE),
            *_build_key_rules(),
            Include("expression"),
            Rule(r"[{}]", ("punctuation.section.braces",)),
            Include("rest"),
        ),
        "component": (
            Include("text"),
            *_build_statement_heads("binding"),
            Rule(rf"\b{ID}(?={EQUALS_SIGN})", (DECLARATION_SCOPE,)),
            Include("expression"),
            Rule(r"\{", ("punctuation.section.braces",)),
            Include("rest"),
        ),
        "arguments": (
            Include("text"),
            *_build_choice_rules(ARGUMENT_SCOPE),
            Rule(f"{ID}(?=[ \t]*(?::|=(?!=)))", (ARGUMENT_SCOPE,)),
            Include("expression"),
            Include("rest"),
        ),
        "elements": (Include("text"), Include("expression"), Include("rest")),
        "text": _build_text_rules(),
        "string": (
            Rule(r'\\["\\nt]', ("constant.character.escape",)),
            Rule(r"\\.", ("invalid.illegal.escape",)),
            Rule(r'[^"\\\n]+', (INHERIT_SCOPE,)),
        ),
        "documentation": (Rule("`[^`\n]*`", ("markup.inline.raw",)), Rule("[^`\n]+|`", (INHERIT_SCOPE,))),
        "expression": (
            *_build_number_rules(),
            *_build_keyword_rules(),
            *_build_name_rules(),
            *_build_bracket_regions(),
            *_build_operator_rules(),
        ),
        "rest": (Rule("[ \t]+", (None,)), Rule(r"[^ \t\n]", ("invalid.illegal.character",))),
    }


def _build_text_rules() -> tuple[Entry, ...]:
    quote = "punctuation.definition.string"
    return (
        Region(
            Rule("##(?!#)", ("punctuation.definition.comment",)), Rule("$", (INHERIT_SCOPE,)), "documentation",
            "comment.line.documentation",
        ),
        Rule("#[^\n]*", ("comment.line.number-sign",)),
        Region(Rule('"', (quote,)), Rule('"|$', (quote,)), "string", "string.quoted.double"),
    )  # fmt: skip


def _build_statement_heads(*names: str) -> tuple[Rule, ...]:
    """Return the rules for statements that start with a keyword, in the given order."""
    start = f"^{OPTIONAL_BLANKS}"
    bindings = build_alternation(k for k, scope in KEYWORD_SCOPES.items() if scope == "storage.type.binding")
    rules = {
        "header": Rule(
            f"{start}(seg){BLANKS}([0-9]+){WORD_END}", (None, KEYWORD_SCOPES["seg"], None, "constant.numeric.version")
        ),
        "import": Rule(f'{start}(import|extends)(?=[ \t]*")', (None, KEYWORD_SCOPES["import"])),
        "drop": Rule(f"{start}(drop)(?=[ \t]+{ID})", (None, KEYWORD_SCOPES["drop"])),
        "binding": Rule(f"{start}({bindings}){BLANKS}({ID})", (None, KEYWORD_SCOPES["let"], None, DECLARATION_SCOPE)),
    }
    return tuple(rules[name] for name in names)


def _build_component_regions() -> tuple[Region, ...]:
    """Return the regions of blocks and models, from their keyword to their closing brace."""
    brace = "punctuation.section.braces"
    end = Rule(rf"\}}|{NEXT_DEFINITION}", (brace,))
    return tuple(
        Region(
            Rule(
                f"^{OPTIONAL_BLANKS}({word}){BLANKS}({ID})",
                (None, KEYWORD_SCOPES[word], None, f"entity.name.type.{word}"),
            ),
            end,
            "component",
        )
        for word in ("block", "model")
    )


def _build_key_rules() -> tuple[Rule, ...]:
    """Return the rules for names before `=` and `{`: known sections first, then other keys."""
    opens = r"[ \t]*\{"
    path = rf"(?:\.{ID})*"
    anywhere = rf"(?={path}(?:{opens}|{EQUALS_SIGN}))"
    sections = build_alternation(collect_section_names())
    return (
        Rule(rf"(\.)({sections})(?={path}{opens})", (ACCESSOR_SCOPE, SECTION_SCOPE)),
        Rule(rf"(\.)({ID}){anywhere}", (ACCESSOR_SCOPE, KEY_SCOPE)),
        Rule(rf"\b{sections}{anywhere}", (SECTION_SCOPE,)),
        Rule(rf"\b{ID}{anywhere}", (KEY_SCOPE,)),
    )


def _build_choice_rules(key_scope: str) -> tuple[Rule, ...]:
    """Return the rules for enum members after each key or argument that takes them."""
    # `nearest` or `input` are ordinary names elsewhere, so they are colored only where they are values.
    rules = []
    for key, members in sorted(collect_choices().items()):
        pattern = rf"({key}){OPTIONAL_BLANKS}(=){OPTIONAL_BLANKS}({build_alternation(members)})(?![A-Za-z0-9_.(])"
        scopes = (key_scope, None, ASSIGN_SCOPE, None, MEMBER_SCOPE)
        if key_scope == KEY_SCOPE:
            rules.append(Rule(rf"(\.){pattern}", (ACCESSOR_SCOPE, *scopes)))
        rules.append(Rule(rf"\b{pattern}", scopes))
    return tuple(rules)


def _build_number_rules() -> tuple[Rule, ...]:
    from segdsl.ir.values import UNITS

    return (
        Rule(f"[0-9]+x[0-9]+{WORD_END}", ("constant.numeric.size",)),
        Rule(
            f"({NUMBER}){BLANKS}({build_alternation(UNITS)}){WORD_END}",
            ("constant.numeric.quantity", None, "keyword.other.unit"),
        ),
        Rule(f"(?:{NUMBER})(?![A-Za-z0-9_%])", ("constant.numeric",)),
        Rule(r"[0-9]+(?:\.[0-9]+)?(?:%|[A-Za-z_][A-Za-z0-9_]*)", ("invalid.illegal.number",)),
        Rule(r"\.\.", ("keyword.operator.range",)),
    )


def _build_keyword_rules() -> tuple[Rule, ...]:
    """Return the rules for keywords in expressions: not after a dot, and not as the head of a path."""
    inner = {k: s for k, s in KEYWORD_SCOPES.items() if k not in _STATEMENT_KEYWORDS}
    by_scope: dict[str, list[str]] = {}
    for keyword, scope in {**inner, "in": KEYWORD_SCOPES["for"]}.items():
        by_scope.setdefault(scope, []).append(keyword)
    word = r"(?!\.[A-Za-z_])"
    return (
        Rule(rf"(\.)({build_alternation(PROPERTIES)}){WORD_END}", (ACCESSOR_SCOPE, "support.variable.property")),
        Rule(r"(\.)([A-Z][A-Za-z0-9_]+)", (ACCESSOR_SCOPE, "entity.name.type.component")),
        Rule(rf"(\.)({ID})", (ACCESSOR_SCOPE, "variable.other.member")),
        Rule(f"(->){OPTIONAL_BLANKS}(each){WORD_END}{word}", ("keyword.operator.flow", None, KEYWORD_SCOPES["each"])),
        Rule("->", ("keyword.operator.flow",)),
        Rule(rf"\b(as){BLANKS}({ID})", (KEYWORD_SCOPES["as"], None, DECLARATION_SCOPE)),
        Rule(rf"\b(from){BLANKS}({ID})(?={EQUALS_SIGN})", (KEYWORD_SCOPES["from"], None, DECLARATION_SCOPE)),
        *(Rule(rf"\b{build_alternation(ks)}{WORD_END}{word}", (scope,)) for scope, ks in by_scope.items()),
    )


_STATEMENT_KEYWORDS = ("seg", "import", "extends", "block", "model", "let", "in", "out", "param", "drop", "each")
"""Keywords that are keywords only at the start of their statement, and names elsewhere."""


def _build_name_rules() -> tuple[Rule, ...]:
    from segdsl.lang.elaborate.blocks import PARAMETER_TYPES
    from segdsl.lang.elaborate.functions import FUNCTIONS

    return (
        Rule(
            f"(:){OPTIONAL_BLANKS}({build_alternation(PARAMETER_TYPES)}){WORD_END}",
            ("punctuation.separator.type", None, "support.type"),
        ),
        *(
            Rule(rf"\b{build_alternation(names)}{WORD_END}", (f"support.class.{kind}",))
            for kind, names in collect_words().items()
        ),
        Rule(r"\b[A-Z][A-Za-z0-9_]+", ("entity.name.type.component",)),
        Rule(rf"\b[A-Z]{WORD_END}", ("variable.other.constant.dimension",)),
        Rule(rf"\b{build_alternation(FUNCTIONS)}(?=[ \t]*\()", ("support.function",)),
        Rule(rf"\b{build_alternation(collect_section_names())}(?=\.[a-z_])", (SECTION_SCOPE,)),
        Rule(rf"\b{ID}(?=\.[A-Z][A-Za-z0-9_])", ("entity.name.namespace",)),
        Rule(ID, ("variable.other",)),
    )


def _build_bracket_regions() -> tuple[Region, ...]:
    return (
        Region(Rule(r"\(", ("punctuation.section.parens",)), Rule(rf"\)|{RECOVERY}", ("punctuation.section.parens",)),
               "arguments"),
        Region(Rule(r"\[", ("punctuation.section.brackets",)),
               Rule(rf"\]|{RECOVERY}", ("punctuation.section.brackets",)), "elements"),
    )  # fmt: skip


def _build_operator_rules() -> tuple[Rule, ...]:
    return (
        Rule("==|!=|<=|>=|<|>", ("keyword.operator.comparison",)),
        Rule(r"\*\*|//|[-+*/]", ("keyword.operator.arithmetic",)),
        Rule("=", (ASSIGN_SCOPE,)),
        Rule(":", ("punctuation.separator.type",)),
        Rule(",", ("punctuation.separator.comma",)),
        Rule(r"\.", (ACCESSOR_SCOPE,)),
        Rule(r"[)\]]", ("invalid.illegal.bracket",)),
    )


def collect_words() -> dict[str, list[str]]:
    """Return the names of the registered words by kind."""
    import segdsl.ops
    import segdsl.words  # noqa: F401 - importing registers every word
    from segdsl.ir.word import REGISTRY

    found: dict[str, list[str]] = {}
    for name, word in sorted(REGISTRY.items()):
        found.setdefault(word.kind, []).append(name)
    return dict(sorted(found.items()))


def collect_section_names() -> tuple[str, ...]:
    """Return the names of all sections, nested ones included."""
    from segdsl.ir.program import RESERVED_SECTIONS, SECTIONS

    found = ["model", "weights", *RESERVED_SECTIONS, *SECTIONS]
    found += [name for section in SECTIONS.values() for name in _walk_nested_sections(section)]
    return tuple(dict.fromkeys(found))


def _walk_nested_sections(section: Any) -> Iterator[str]:
    from segdsl.ir.program import Section

    for name, info in section.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            yield name
            yield from _walk_nested_sections(info.annotation)
        # A dict field is a section with names of the user's choice, such as `data.train.augment`.
        elif typing.get_origin(info.annotation) is dict:
            yield name


def collect_choices() -> dict[str, set[str]]:
    """Return the enum members by the name of the keys and arguments that take them."""
    import segdsl.ops
    import segdsl.words  # noqa: F401 - importing registers every word
    from segdsl.ir.program import SECTIONS, Section
    from segdsl.ir.word import REGISTRY, is_bare_choice, list_choices

    found: dict[str, set[str]] = {}
    records: list[Any] = [*REGISTRY.values(), *SECTIONS.values()]
    # The list grows during the loop: nested sections are appended as they are found.
    for record in records:
        for name, info in record.model_fields.items():
            if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
                records.append(info.annotation)
            members = {name for name in list_choices(info.annotation) if is_bare_choice(name)}
            if members:
                found.setdefault(name, set()).update(members)
    return found
