"""Merging of the settings in the files and options of a program: one setting per path (LANGUAGE.md §2, rule 7)."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from segdsl.diagnostics import Diagnostic, Fix, Label, Sink, Span, find_safe_replacement, match_name, suggest_name
from segdsl.diagnostics.aliases import list_meanings
from segdsl.ir.program import RESERVED_SECTIONS, SECTIONS, Section
from segdsl.ir.word import REGISTRY, Word, find_word_family, list_words
from segdsl.lang.elaborate.arguments import ArgumentExpr, match_arguments
from segdsl.lang.elaborate.context import Context, Frame
from segdsl.lang.elaborate.files import rebinding_error
from segdsl.lang.elaborate.scopes import BlockDef, FileScope
from segdsl.lang.elaborate.values import EvalStop
from segdsl.lang.suggest.misplaced import (
    MAX_VALUE_LENGTH,
    SettingSlot,
    UnknownSetting,
    accepts_subpath,
    find_remedy,
    find_slots,
    get_annotation,
    suggest_argument,
)
from segdsl.syntax import tree

Path = tuple[str, ...]
Idents = tuple[tree.Ident, ...]
TOP_LEVEL_NAMES = ("model", "weights", *SECTIONS)
"""The top-level names that a program can set."""


@dataclass(slots=True)
class Setting:
    """The value of one path: its expression, the file whose names it uses, and changes to the component's arguments."""

    expr: tree.Expr
    file: FileScope
    span: Span
    changes: dict[str, Setting] = field(default_factory=dict)


class PathTarget(NamedTuple):
    """The key that a path leads to: its length as part of the path, its type, and its section if it is one."""

    key_length: int
    kind: Any
    section: type[Section] | None = None


def flatten_statements(body: Sequence[tree.Statement], prefix: Idents = ()) -> Iterator[tuple[Idents, tree.Statement]]:
    """Yield the assignments and drops of a file in order, with full paths; sections are flattened."""
    for statement in body:
        if isinstance(statement, tree.Section):
            yield (*prefix, *statement.path), statement
            yield from flatten_statements(statement.body, (*prefix, *statement.path))
        elif isinstance(statement, (tree.Assign, tree.Drop)):
            yield (*prefix, *statement.path), statement
        # Anything else inside a section is an error, except what did not parse and is already reported.
        elif prefix and not isinstance(statement, tree.ErrorStatement):
            yield prefix, statement


def match_setting_arguments(
    setting: Setting, names: list[str], callee: str, context: Context
) -> dict[str, ArgumentExpr]:
    """Return the arguments of a setting's component by name, including the changes made by path."""
    assert isinstance(setting.expr, tree.Call)
    bound = match_arguments(setting.expr, names, callee, Frame(context, setting.file))
    for name, change in setting.changes.items():
        if name in names:
            bound[name] = (change.expr, Frame(context, change.file))
            continue
        near = find_safe_replacement(name, names)
        fix = Fix(change.span, near) if near else None
        message, help = f"`{callee}` has no argument `{name}`", suggest_argument(name, names)
        raise EvalStop(Diagnostic("unknown-argument", message, help, span=change.span, fix=fix))
    return bound


def match_model_arguments(setting: Setting, model: BlockDef, context: Context) -> dict[str, ArgumentExpr]:
    """Return the arguments of the program's model by name."""
    return match_setting_arguments(setting, [p.name.name for p in model.tree.parameters], model.name, context)


def get_path_span(statement: tree.Assign | tree.Drop) -> Span:
    """Return the place of a statement's path, without the sections around it."""
    return statement.path[0].span.extend_to(statement.path[-1].span)


class Settings:
    """The merged settings of a program."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.values: dict[Path, Setting] = {}

    def merge_statements(self, file: FileScope, body: Sequence[tree.Statement]) -> None:
        """Merge the statements of one file or option over the settings so far."""
        # A path may be set once per file; a child file or an option may set it again.
        seen: dict[Path, Span] = {}
        # Braces after a value: one error for the braces, none for the keys inside.
        closed: list[Path] = []
        for idents, statement in flatten_statements(body):
            path = tuple(i.name for i in idents)
            place = self._resolve_target(idents, statement)
            if place is None or any(path[: len(c)] == c for c in closed):
                continue
            if isinstance(statement, tree.Section):
                if not self._check_is_section(idents, place):
                    closed.append(path)
            elif isinstance(statement, tree.Drop):
                self._drop_path(path, get_path_span(statement), seen, file)
            elif isinstance(statement, tree.Assign):
                if path in seen:
                    self.sink.add(rebinding_error(replace_name(idents[-1], ".".join(path)), seen[path]))
                    continue
                seen[path] = get_path_span(statement)
                self._assign_value(path, idents, place, statement, file)
                if path[0] != "weights":
                    # Below `weights`, `backbone` and `backbone.stem` are separate entries, not value and argument.
                    self._warn_discarded_changes([p for p in seen if p[:-1] == path], seen, seen[path], "replaced")
            else:
                # Accept a misplaced `let` anyway, or every use of it would be another error.
                if isinstance(statement, tree.Let):
                    file.lets.setdefault(statement.name.name, statement)
                self.sink.add(
                    Diagnostic(
                        "statement-in-section",
                        "a section may contain only settings, sections and `drop`",
                        "move this statement to the top level of the file",
                        span=statement.span,
                    )
                )

    def collect_spans(self) -> dict[str, Span]:
        """Return the place where each path is set, including arguments that are changed by path."""
        found = {".".join(path): setting.expr.span for path, setting in self.values.items()}
        for path, setting in self.values.items():
            found |= {".".join((*path, name)): change.expr.span for name, change in setting.changes.items()}
        return found

    def _resolve_target(self, idents: Idents, statement: tree.Statement) -> PathTarget | None:
        head = idents[0]
        if head.name == "model":
            return PathTarget(1, Word)
        if head.name == "weights":
            return PathTarget(len(idents), str)
        if head.name in RESERVED_SECTIONS:
            self._report_unknown_name(
                head, "reserved-feature", f"`{head.name}` is reserved for a later version", "remove the section"
            )
            return None
        if head.name not in SECTIONS:
            message = f"unknown section `{head.name}`"
            self._report_unknown_name(
                head, "unknown-section", message, *self._suggest_name(idents, 0, statement, TOP_LEVEL_NAMES, "sections")
            )
            return None
        kind: Any = SECTIONS[head.name]
        for position, ident in enumerate(idents[1:], 1):
            if isinstance(kind, type) and issubclass(kind, Section):
                fields = kind.model_fields
                if ident.name not in fields:
                    message = f"`{'.'.join(i.name for i in idents[:position])}` has no key `{ident.name}`"
                    meant = self._suggest_name(idents, position, statement, fields, "keys")
                    self._report_unknown_name(ident, "unknown-key", message, *meant)
                    return None
                kind = fields[ident.name].annotation
            elif typing.get_origin(kind) is dict:
                kind = typing.get_args(kind)[1]
            else:
                return PathTarget(position, kind)
        return PathTarget(len(idents), kind, kind if isinstance(kind, type) and issubclass(kind, Section) else None)

    def _report_unknown_name(
        self, ident: tree.Ident, slug: str, message: str, help: str, fix: Fix | None = None
    ) -> None:
        self.sink.add(Diagnostic(slug, message, help, span=ident.span, fix=fix))

    def _suggest_name(
        self, idents: Idents, position: int, statement: tree.Statement, valid_names: Iterable[str], noun: str
    ) -> tuple[str, Fix | None]:
        """Return the help and fix for an unknown name in a path: a synonym, a misplaced key, or a misspelling."""
        ident, valid_names = idents[position], list(valid_names)
        # An `import` has a path too, but that of a file.
        own = statement.path if isinstance(statement, (tree.Section, tree.Assign, tree.Drop)) else idents
        braces = len(idents) - len(own)
        found, is_last = None, position == len(idents) - 1
        if is_last:
            found = find_remedy(self._make_unknown_setting(idents, braces, statement), valid_names)
        elif help := self._suggest_section(idents, position, statement, valid_names):
            return help, None
        if position and not is_last:
            prefix = tuple(i.name for i in idents[:position])
            valid_names = [key for key in valid_names if accepts_subpath(SettingSlot((*prefix, key)))]
        if found is None:
            near = find_safe_replacement(ident.name, valid_names)
            return suggest_name(ident.name, valid_names, noun), Fix(ident.span, near) if near else None
        if not found.replacement_path or position < braces:
            return found.help, None
        # The right place may hold a component without this argument; then the fix would be the next error.
        whole = (*(i.name for i in idents[:braces]), *found.replacement_path.split("."))
        lacking = self._suggest_other_component(whole, statement)
        fix = Fix(idents[braces].span.extend_to(ident.span), found.replacement_path)
        return lacking or found.help, None if lacking else fix

    def _suggest_section(
        self, idents: Idents, position: int, statement: tree.Statement, valid_names: Sequence[str]
    ) -> str:
        """Return the help for an unknown section in a path: it is repeated, or stands elsewhere; "" if neither."""
        ident = idents[position]
        if position and idents[position - 1].name in (ident.name, *list_meanings(ident.name)):
            return f"this repeats `{idents[position - 1].name}`; remove `{ident.name}`"
        if position == 0 and match_name(ident.name, valid_names):
            return ""
        section = next((h.path for h in find_slots(ident.name, ()) if accepts_subpath(h)), None)
        return "" if section is None else self._suggest_full_path(section, idents[position + 1 :], statement)

    def _suggest_full_path(self, section: Path, rest: Idents, statement: tree.Statement) -> str:
        """Return the help for a path that starts with a section or component from another place."""
        path = ".".join((*section, *(i.name for i in rest)))
        value = (
            f" = {self._get_short_source(statement.value) or '…'}" if isinstance(statement, tree.Assign) else " { … }"
        )
        return f"its full path is `{'.'.join(section)}`: write `{path}{value}`"

    def _suggest_other_component(self, path: Path, statement: tree.Statement) -> str:
        """Return the help if a path is an argument that the current component does not have, otherwise ""."""
        base = self.values.get(path[:-1])
        func = base.expr.func if base is not None and isinstance(base.expr, tree.Call) else None
        word = REGISTRY.get(func.name) if isinstance(func, tree.Name) else None
        family = find_word_family(get_annotation(SettingSlot(path[:-1])))
        if word is None or family is None or path[-1] in word.model_fields:
            return ""
        other = next((name for name, cls in list_words(family).items() if path[-1] in cls.model_fields), "")
        value = (self._get_short_source(statement.value) if isinstance(statement, tree.Assign) else "") or "…"
        example = f"{'.'.join(path[:-1])} = {other}({path[-1]} = {value})"
        what = f"`{path[-1]}` is an argument of `{other}`, but `{word.__name__}` is set"
        return f"{what}: to replace it, write `{example}`"

    def _get_short_source(self, value: tree.Expr) -> str:
        """Return the source of a value, or "" if it is too long for a suggestion."""
        text = self.sink.sources.get(value.span.file, "")[value.span.start : value.span.end]
        return text if len(text) <= MAX_VALUE_LENGTH and "\n" not in text else ""

    def _make_unknown_setting(self, idents: Idents, braces: int, statement: tree.Statement) -> UnknownSetting:
        value = statement.value if isinstance(statement, tree.Assign) else None
        source = self._get_short_source(value) if value is not None else ""
        return UnknownSetting(idents[-1].name, tuple(i.name for i in idents[:-1]), braces, value, source)

    def _check_is_section(self, idents: tuple[tree.Ident, ...], place: PathTarget) -> bool:
        """Return whether a path leads to a section; reports an error if it does not."""
        if place.section is None and typing.get_origin(place.kind) is not dict and idents[0].name != "weights":
            path = ".".join(i.name for i in idents)
            self.sink.add(
                Diagnostic(
                    "not-a-section",
                    f"`{path}` is a value, not a section",
                    self._suggest_assignment(path, place),
                    span=idents[-1].span,
                )
            )
            return False
        return True

    def _suggest_assignment(self, path: str, place: PathTarget) -> str:
        """Return the help for a value that is written as a section."""
        family = find_word_family(place.kind)
        if family is None or family is Word:
            return f"write `{path} = …`"
        base = self.values.get(tuple(path.split(".")))
        called = base.expr.func if base is not None and isinstance(base.expr, tree.Call) else None
        name = called.name if isinstance(called, tree.Name) else next(iter(list_words(family)))
        argument = next(iter(REGISTRY[name].model_fields), "…") if name in REGISTRY else "…"
        return f"write `{path} = {name}(…)`, or set a single argument: `{path}.{argument} = …`"

    def _assign_value(
        self, path: Path, idents: tuple[tree.Ident, ...], place: PathTarget, statement: tree.Assign, file: FileScope
    ) -> None:
        span = get_path_span(statement)
        is_group = place.section is not None or typing.get_origin(place.kind) is dict or path == ("weights",)
        if is_group and place.key_length == len(path):
            keys = ", ".join(place.section.model_fields) if place.section else "names of your choice"
            message = f"`{'.'.join(path)}` is a section, not a value; its keys are {keys}"
            help = f"write `{'.'.join(path)} {{ {self._format_first_entry(statement.value, place)} }}`"
            if place.section is None and _is_empty_value(statement.value):
                help = f"to clear it, write `drop {'.'.join(path)}`"
            self.sink.add(Diagnostic("section-as-value", message, help, span=span))
            return
        if place.key_length == len(path):
            self.values[path] = Setting(statement.value, file, span)
            return
        self._change_argument(path, idents, place, Setting(statement.value, file, idents[-1].span))

    def _format_first_entry(self, value: tree.Expr, place: PathTarget) -> str:
        """Format a value, or the first of a list, as an entry with a made-up name; an ellipsis if keys are fixed."""
        first = value.items[0] if isinstance(value, tree.ListExpr) and value.items else value
        text = self.sink.sources.get(first.span.file, "")[first.span.start : first.span.end]
        if place.section is not None or len(text) > MAX_VALUE_LENGTH or "\n" in text:
            return "…"
        return f"{'backbone' if place.kind is str else 'name'} = {text}" + (" …" if first is not value else "")

    def _change_argument(self, path: Path, idents: tuple[tree.Ident, ...], place: PathTarget, setting: Setting) -> None:
        key = path[: place.key_length]
        key_text, argument = ".".join(key), path[place.key_length]
        component = find_word_family(place.kind)
        if component is None or len(path) > place.key_length + 1:
            near = ".".join(path[: place.key_length + (component is not None)])
            message = f"`{near}` is a value and has no keys"
            self.sink.add(
                Diagnostic("unknown-key", message, f"set `{near} = …` instead", span=idents[place.key_length].span)
            )
            return
        base = self.values.get(key)
        # The component may be set in a parent file that could not be read.
        if base is None and setting.file.is_incomplete:
            return
        if base is None:
            message = f"cannot change `{argument}`, because `{key_text}` is not set"
            help = f"set `{key_text} = …(…)` first"
            self.sink.add(Diagnostic("nothing-to-change", message, help, span=setting.span))
            return
        if isinstance(base.expr, tree.Flow):
            message = f"`{key_text}` is a chain, so `{argument}` is ambiguous"
            help = f"replace the whole chain: `{key_text} = A(…) -> B(…)`"
            self.sink.add(
                Diagnostic(
                    "nothing-to-change", message, help, span=setting.span, labels=(Label(base.expr.span, "the chain"),)
                )
            )
            return
        self.values[key] = replace(base, changes={**base.changes, argument: setting})

    def _warn_discarded_changes(self, paths: list[Path], span_by_path: dict[Path, Span], by: Span, action: str) -> None:
        """Warn about statements that have no effect because of a later statement in the same file."""
        for path in paths:
            self.sink.add(
                Diagnostic(
                    "discarded-change",
                    f"`{'.'.join(path)}` has no effect: it is {action} later in this file",
                    "move it below that line, or remove it",
                    span=span_by_path.pop(path),
                    labels=(Label(by, f"{action} here"),),
                    severity="warning",
                )
            )

    def _drop_path(self, path: Path, place: Span, span_by_path: dict[Path, Span], file: FileScope) -> None:
        self._warn_discarded_changes(
            [p for p in span_by_path if p[: len(path)] == path], span_by_path, place, "dropped"
        )
        removed = [p for p in self.values if p[: len(path)] == path]
        for found in removed:
            del self.values[found]
        if not removed and not self._drop_argument(path) and not file.is_incomplete:
            known = {".".join(p[: len(path)]) for p in self.values}
            path_text = ".".join(path)
            self.sink.add(
                Diagnostic(
                    "drop-nothing",
                    f"cannot drop `{path_text}`, because it is not set",
                    suggest_name(path_text, known, "paths"),
                    span=place,
                )
            )

    def _drop_argument(self, path: Path) -> bool:
        """Reset an argument of a component to its default. Return False if the argument is not set."""
        base = self.values.get(path[:-1])
        if base is None or not isinstance(base.expr, tree.Call):
            return False
        name, call = path[-1], base.expr
        args = tuple(a for a in call.args if a.name is None or a.name.name != name)
        if name not in base.changes and len(args) == len(call.args):
            return False
        changes = {k: v for k, v in base.changes.items() if k != name}
        self.values[path[:-1]] = replace(base, expr=tree.Call(call.func, args, call.span), changes=changes)
        return True


def _is_empty_value(value: tree.Expr) -> bool:
    """Return whether a value means "nothing": `none`, `false`, `[]`."""
    if isinstance(value, tree.ListExpr):
        return not value.items
    return isinstance(value, tree.Constant) and not value.value


def replace_name(ident: tree.Ident, name: str) -> tree.Ident:
    """Return an identifier with another name at the same place."""
    return tree.Ident(name, ident.span)
