"""The sections of a program as records: every setting is read by the type of its key, once, when it is asked for."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from typing import Any

from segdsl.diagnostics import Diagnostic, Label, Sink, Span, suggest
from segdsl.ir.labels import VOID_ID, Fault, control_character, faults, has_control_character, relabelled
from segdsl.ir.program import SECTIONS, Section
from segdsl.ir.values import Size
from segdsl.ir.word import word_family
from segdsl.lang.convert.fields import build_word, convert, validated
from segdsl.lang.elaborate.context import Context, Frame, evaluate
from segdsl.lang.elaborate.expressions import lookup_component
from segdsl.lang.elaborate.values import POISON, Poison, Stop, describe, stop
from segdsl.lang.settings.merge import Path, Setting, Settings, arguments_of
from segdsl.syntax import tree

MAX_SIDE = 65_536
"""The largest height or width in pixels that a network is laid out for."""
ADAPT = ("weights", "adapt")
"""The one path below `weights` that is no part of the graph."""
CLASSES = ("data", "classes")
OPEN = object()
"""Marks a path whose value is being worked out, to find circles."""


class Sections:
    """Reads settings lazily, so that one may name another (`len(data.classes)`), and reports each error once."""

    def __init__(self, settings: Settings, sink: Sink, classes: int | Sequence[str] | None) -> None:
        self.settings, self.sink = settings, sink
        self.counted = isinstance(classes, int)
        self.classes = tuple(f"class_{i}" for i in range(classes)) if isinstance(classes, int) else classes
        stated = settings.values.get(CLASSES)
        if stated is not None and isinstance(stated.expr, tree.Constant) and stated.expr.value is None:
            del settings.values["data", "classes"]
        self.assumed = classes is None and CLASSES not in settings.values
        self.values: dict[Path, Any] = {}
        self.context = Context(sink, {"B": 1, "H": 512, "W": 512}, self.resolve, lambda name: name in SECTIONS)
        size = self.size()
        self.context.env = {"B": 1, "H": size.height, "W": size.width}
        setting = settings.values.get(("data", "input_size"))
        self.context.size_span = setting.span if setting else None

    @property
    def named(self) -> bool:
        """Whether the classes have their names: they are neither assumed nor only counted."""
        return not self.assumed and not (self.counted and self.value(CLASSES) == self.classes)

    def size(self) -> Size:
        """`data.input_size`; the default where it failed, which no finding may then be about."""
        value = self.value(("data", "input_size"))
        if isinstance(value, Size) and min(value.height, value.width) > 0:
            return value
        self.context.size_failed = True
        return Size(512, 512)

    def resolve(self, path: Path, span: Span) -> Any:
        """The value of a path that an expression names."""
        kind: Any = SECTIONS[path[0]]
        for position, name in enumerate(path[1:], 1):
            if not (isinstance(kind, type) and issubclass(kind, Section)):
                message = f"nothing lies below `{'.'.join(path[:position])}`"
                raise stop("unknown-path", _part(path, position, span), message, "shorten the path")
            if name not in kind.model_fields:
                raise stop(
                    "unknown-path",
                    _part(path, position, span),
                    f"`{'.'.join(path[:position])}` has no `{name}`",
                    suggest(name, kind.model_fields, "keys"),
                )
            kind = kind.model_fields[name].annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            raise stop(
                "unknown-path",
                span,
                f"`{'.'.join(path)}` is a section, not a value",
                suggest("", kind.model_fields, "keys"),
            )
        value = self.labels(span) if path == CLASSES else self.value(path, span)
        if path == ("data", "ignore") and self.value(("data", "values"), span) is not None:
            value = VOID_ID
        if isinstance(value, Poison):
            raise Stop
        return value

    def labels(self, asked: Span | None = None) -> Any:
        """The classes that are learnt: those that masks declare, without `exclude` and after `remap`.

        Placeholders stay as they are. POISON where something of it failed.
        """
        declared = self.value(CLASSES, asked)
        if self.assumed or self.counted or isinstance(declared, Poison):
            return declared
        own = next((n for n in ("exclude", "remap") if self.values.get(("data", n)) is OPEN), None)
        if own is not None and asked is not None:
            message = f"`data.{own}` changes `data.classes`, and is defined by it"
            raise stop("value-cycle", asked, message, "name the classes as texts")
        exclude, remap, ignore, values = (
            self.value(("data", name), asked) for name in ("exclude", "remap", "ignore", "values")
        )
        if any(isinstance(part, Poison) for part in (exclude, remap, ignore, values)):
            return POISON
        merges = [(word.classes, word.into) for word in remap]
        found = faults(declared, ignore, exclude, merges, values)
        for fault in found:
            self.context.report(self._located(fault))
        return POISON if found else relabelled(declared, exclude, merges).classes

    def _located(self, fault: Fault) -> Diagnostic:
        setting = self.settings.values.get(("data", fault.setting))
        span = None
        if setting is not None:
            items = setting.expr.items if isinstance(setting.expr, tree.ListExpr) else ()
            span = items[fault.position].span if 0 <= fault.position < len(items) else setting.expr.span
        return Diagnostic(fault.slug, fault.message, fault.help, span=span)

    def value(self, path: Path, asked: Span | None = None) -> Any:
        """The value at a key, its default if it is not set, POISON if it failed."""
        if self.values.get(path) is OPEN:
            assert asked is not None
            raise stop(
                "value-cycle", asked, f"`{'.'.join(path)}` is defined by itself", "break the circle with a plain value"
            )
        if path not in self.values:
            self.values[path] = OPEN
            try:
                self.values[path] = self._compute(path)
            except Stop as signal:
                self.values[path] = POISON
                if signal.diagnostic:
                    self.context.report(signal.diagnostic)
        return self.values[path]

    def _compute(self, path: Path) -> Any:
        if path == CLASSES:
            return self._class_names()
        record, info = _field(path)
        setting = self.settings.values.get(path)
        if setting is None:
            return info.get_default(call_default_factory=True)
        value = self._read(setting, info, path[-1])
        if isinstance(value, Size) and not (0 < value.height <= MAX_SIDE and 0 < value.width <= MAX_SIDE):
            message = f"`{path[-1]}` is from 1x1 to {MAX_SIDE}x{MAX_SIDE}, got {value}"
            raise stop("out-of-bounds", setting.expr.span, message, "write a size such as `512x512`")
        checked = validated(record, {path[-1]: value}, {path[-1]: setting.expr.span}, setting.span)
        return getattr(checked, path[-1])

    def _class_names(self) -> Any:
        setting = self.settings.values.get(CLASSES)
        if setting is None:
            return tuple(self.classes or ("class_0", "class_1"))
        names = self._stated(setting)
        if self.classes is None or (self.counted and len(self.classes) == len(names)):
            return names
        return tuple(self.classes)

    def _stated(self, setting: Setting) -> tuple[str, ...]:
        names = self._read(setting, SECTIONS["data"].model_fields["classes"], "classes")
        twice = sorted({n for n in names or () if names.count(n) > 1})
        if twice:
            places = _elements(setting.expr, lambda e: isinstance(e, tree.Constant) and e.value == twice[0])
            raise stop(
                "class-twice",
                places[-1],
                f'two classes are called "{twice[0]}"',
                "give every class its own name",
                labels=[Label(places[0], "the first")] if len(places) > 1 else [],
            )
        if names is not None and len(names) < 2:
            raise stop(
                "too-few-classes",
                setting.expr.span,
                f"a segmentation needs two classes, got {len(names)}",
                "name the background too",
            )
        if names and any(not n.strip() for n in names):
            places = _elements(setting.expr, lambda e: isinstance(e, tree.Constant) and not str(e.value).strip())
            raise stop("class-unnamed", places[0], "a class has an empty name", "give every class a name")
        broken = next((n for n in names or () if has_control_character(n)), None)
        if broken is not None:
            places = _elements(setting.expr, lambda e: isinstance(e, tree.Constant) and e.value == broken)
            raise stop("class-control-character", places[0], *control_character(broken))
        return names if names is not None else ("class_0", "class_1")

    def _read(self, setting: Setting, info: Any, name: str) -> Any:
        frame = Frame(self.context, setting.file)
        if not setting.changes:
            return convert(setting.expr, info, frame, name)
        expr = setting.expr
        word = lookup_component(expr.func, frame) if isinstance(expr, tree.Call) else None
        family = word_family(info.annotation)
        if not (isinstance(word, type) and family and issubclass(word, family)):
            convert(setting.expr, info, frame, name)
            first = next(iter(setting.changes.values()))
            message = "only the arguments of a component that stands there can be changed"
            raise stop("nothing-to-change", first.span, message, "set the whole value")
        bound = arguments_of(setting, list(word.model_fields), word.__name__, self.context)
        value = build_word(word, bound, expr.span)
        return (value,) if typing.get_origin(info.annotation) is tuple else value

    def record(self, section: str) -> Any:
        """The record of a whole section, POISON where a key of it failed."""
        return self._record(SECTIONS[section], (section,))

    def _record(self, kind: type[Section], prefix: Path) -> Any:
        values: dict[str, Any] = {}
        for name, info in kind.model_fields.items():
            path = (*prefix, name)
            if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
                values[name] = self._record(info.annotation, path)
            elif typing.get_origin(info.annotation) is dict:
                values[name] = self._named(path, info)
            elif path != CLASSES or path in self.settings.values or self.classes is not None:
                values[name] = self.value(path)
        if any(isinstance(v, Poison) for v in values.values()):
            return POISON
        if prefix == ("data",):
            if isinstance(self.labels(), Poison):
                return POISON
            if self.counted:
                values |= {"exclude": (), "remap": (), "values": None}
        return kind.model_construct(**values)

    def _named(self, prefix: Path, info: Any) -> Any:
        family = typing.get_args(info.annotation)[1]
        found: dict[str, Any] = {}
        for path, setting in self.settings.values.items():
            if path[:-1] != prefix:
                continue
            try:
                found[path[-1]] = self._read(setting, type(info)(annotation=family), path[-1])
            except Stop as signal:
                if signal.diagnostic:
                    self.context.report(signal.diagnostic)
                found[path[-1]] = POISON
        return POISON if any(isinstance(v, Poison) for v in found.values()) else found

    def weights(self) -> dict[str, str]:
        """The sources of weights, by the path of the graph that they fill."""
        found: dict[str, str] = {}
        for path, setting in self.settings.values.items():
            if path[0] != "weights" or path == ADAPT:
                continue
            try:
                value = evaluate(setting.expr, Frame(self.context, setting.file), None)
                if value is None:
                    continue
                if not isinstance(value, str):
                    raise stop(
                        "wrong-type",
                        setting.expr.span,
                        f"a source of weights is a string, got {describe(value)}",
                        'write the path of a file, such as "backbone.safetensors", or `none`',
                    )
                found[".".join(path[1:])] = value
            except Stop as signal:
                if signal.diagnostic:
                    self.context.report(signal.diagnostic)
        return found

    def adapt_weights(self) -> bool:
        """`weights.adapt`: whether filters over the image may be changed to fit its channels."""
        setting = self.settings.values.get(ADAPT)
        if setting is None:
            return False
        try:
            value = evaluate(setting.expr, Frame(self.context, setting.file), None)
            if not isinstance(value, bool):
                message = f"`weights.adapt` is `true` or `false`, got {describe(value)}"
                help = "write `adapt = true` to fit the filters over the image to its channels"
                raise stop("wrong-type", setting.expr.span, message, help)
            return value
        except Stop as signal:
            if signal.diagnostic:
                self.context.report(signal.diagnostic)
            return False


def _elements(expr: tree.Expr, wanted: Callable[[tree.Expr], bool]) -> list[Span]:
    """Where the wanted elements of a written list stand; the whole expression where there are none."""
    items = expr.items if isinstance(expr, tree.ListExpr) else ()
    return [item.span for item in items if wanted(item)] or [expr.span]


def _part(path: Path, position: int, span: Span) -> Span:
    """Where one name of a path stands that is written at ``span``."""
    if span.end - span.start != len(".".join(path)):
        return span
    start = span.start + len(".".join((*path[:position], "")))
    return Span(span.file, start, start + len(path[position]))


def _field(path: Path) -> tuple[type[Section], Any]:
    kind: Any = SECTIONS[path[0]]
    for name in path[1:-1]:
        kind = kind.model_fields[name].annotation
    return kind, kind.model_fields[path[-1]]
