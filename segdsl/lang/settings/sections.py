"""Conversion of merged settings to the sections of a program. Each setting is read once, on demand, by its type."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from typing import Any

from segdsl.diagnostics import Diagnostic, Label, Sink, Span, suggest_name
from segdsl.ir.labels import (
    VOID_ID,
    Fault,
    describe_control_character,
    find_label_faults,
    has_control_character,
    relabel_classes,
)
from segdsl.ir.program import SECTIONS, Section
from segdsl.ir.values import Size
from segdsl.ir.word import find_word_family
from segdsl.lang.convert.fields import build_word, convert_field, validate_record
from segdsl.lang.elaborate.context import Context, Frame, evaluate_expr
from segdsl.lang.elaborate.expressions import lookup_component
from segdsl.lang.elaborate.values import POISON, EvalStop, Poison, describe_value, eval_error
from segdsl.lang.settings.merge import Path, Setting, Settings, match_setting_arguments
from segdsl.syntax import tree

MAX_IMAGE_SIDE = 65_536
"""The maximum height or width of the input in pixels."""
ADAPT_PATH = ("weights", "adapt")
"""The only path below `weights` that is not a part of the model."""
CLASSES_PATH = ("data", "classes")
IN_PROGRESS = object()
"""Marks a path whose value is being computed, to detect cycles."""


class SectionReader:
    """Reads settings on demand, so that one can refer to another (`len(data.classes)`), and reports each error once."""

    def __init__(self, settings: Settings, sink: Sink, classes: int | Sequence[str] | None) -> None:
        self.settings, self.sink = settings, sink
        self.has_class_count = isinstance(classes, int)
        self.classes = tuple(f"class_{i}" for i in range(classes)) if isinstance(classes, int) else classes
        # `data.classes = none` undoes the classes of a parent: the dataset will name them.
        setting = settings.values.get(CLASSES_PATH)
        if setting is not None and isinstance(setting.expr, tree.Constant) and setting.expr.value is None:
            del settings.values["data", "classes"]
        self.assumes_classes = classes is None and CLASSES_PATH not in settings.values
        self.values: dict[Path, Any] = {}
        # Reading the input size may itself need a context, so start with a default size and correct it.
        self.context = Context(sink, {"B": 1, "H": 512, "W": 512}, self.resolve_path, lambda name: name in SECTIONS)
        size = self.read_input_size()
        self.context.env = {"B": 1, "H": size.height, "W": size.width}
        setting = settings.values.get(("data", "input_size"))
        self.context.size_span = setting.span if setting else None

    @property
    def has_class_names(self) -> bool:
        """Whether the classes have names of their own instead of placeholders."""
        return not self.assumes_classes and not (self.has_class_count and self.read_value(CLASSES_PATH) == self.classes)

    def read_input_size(self) -> Size:
        """Return `data.input_size`, or a default if it is invalid, which then suppresses errors about the size."""
        value = self.read_value(("data", "input_size"))
        if isinstance(value, Size) and min(value.height, value.width) > 0:
            return value
        self.context.has_invalid_size = True
        return Size(512, 512)

    def resolve_path(self, path: Path, span: Span) -> Any:
        """Return the value of a path in an expression, such as `data.classes`. Raises :class:`EvalStop` if invalid."""
        kind: Any = SECTIONS[path[0]]
        for position, name in enumerate(path[1:], 1):
            if not (isinstance(kind, type) and issubclass(kind, Section)):
                message = f"`{'.'.join(path[:position])}` is a value and has no keys"
                raise eval_error("unknown-path", _locate_path_part(path, position, span), message, "shorten the path")
            if name not in kind.model_fields:
                raise eval_error(
                    "unknown-path",
                    _locate_path_part(path, position, span),
                    f"`{'.'.join(path[:position])}` has no key `{name}`",
                    suggest_name(name, kind.model_fields, "keys"),
                )
            kind = kind.model_fields[name].annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            raise eval_error(
                "unknown-path",
                span,
                f"`{'.'.join(path)}` is a section, not a value",
                suggest_name("", kind.model_fields, "keys"),
            )
        # Expressions see the classes that the model learns, after `exclude` and `remap`, and the ignore value of the
        # masks after `values` has mapped them to class ids.
        value = self.read_target_classes(span) if path == CLASSES_PATH else self.read_value(path, span)
        if path == ("data", "ignore") and self.read_value(("data", "values"), span) is not None:
            value = VOID_ID
        if isinstance(value, Poison):
            raise EvalStop
        return value

    def read_target_classes(self, use_span: Span | None = None) -> Any:
        """Return the classes that the model learns: those of the masks, without `exclude` and after `remap`.

        Placeholders stay as they are. Returns POISON if one of the settings is invalid.
        """
        declared = self.read_value(CLASSES_PATH, use_span)
        if self.assumes_classes or self.has_class_count or isinstance(declared, Poison):
            return declared
        changing_key = next((n for n in ("exclude", "remap") if self.values.get(("data", n)) is IN_PROGRESS), None)
        if changing_key is not None and use_span is not None:
            message = f"`data.{changing_key}` depends on `data.classes`, which it changes"
            raise eval_error("value-cycle", use_span, message, "write the class names as strings")
        exclude, remap, ignore, values = (
            self.read_value(("data", name), use_span) for name in ("exclude", "remap", "ignore", "values")
        )
        if any(isinstance(part, Poison) for part in (exclude, remap, ignore, values)):
            return POISON
        merges = [(word.classes, word.into) for word in remap]
        found = find_label_faults(declared, ignore, exclude, merges, values)
        for fault in found:
            self.context.report(self._locate_fault(fault))
        return POISON if found else relabel_classes(declared, exclude, merges).classes

    def _locate_fault(self, fault: Fault) -> Diagnostic:
        setting = self.settings.values.get(("data", fault.setting))
        span = None
        if setting is not None:
            items = setting.expr.items if isinstance(setting.expr, tree.ListExpr) else ()
            span = items[fault.position].span if 0 <= fault.position < len(items) else setting.expr.span
        return Diagnostic(fault.slug, fault.message, fault.help, span=span)

    def read_value(self, path: Path, use_span: Span | None = None) -> Any:
        """Return the value of a key: its default if it is not set, POISON if it is invalid."""
        if self.values.get(path) is IN_PROGRESS:
            assert use_span is not None
            message = f"`{'.'.join(path)}` is defined in terms of itself"
            raise eval_error("value-cycle", use_span, message, "break the cycle with a constant value")
        if path not in self.values:
            self.values[path] = IN_PROGRESS
            try:
                self.values[path] = self._compute_value(path)
            except EvalStop as signal:
                self.values[path] = POISON
                if signal.diagnostic:
                    self.context.report(signal.diagnostic)
        return self.values[path]

    def _compute_value(self, path: Path) -> Any:
        if path == CLASSES_PATH:
            return self._read_class_names()
        record, info = _lookup_key(path)
        setting = self.settings.values.get(path)
        if setting is None:
            return info.get_default(call_default_factory=True)
        value = self._read_setting(setting, info, path[-1])
        if isinstance(value, Size) and not (0 < value.height <= MAX_IMAGE_SIDE and 0 < value.width <= MAX_IMAGE_SIDE):
            message = f"`{path[-1]}` must be between 1x1 and {MAX_IMAGE_SIDE}x{MAX_IMAGE_SIDE}, got {value}"
            raise eval_error("out-of-bounds", setting.expr.span, message, "write a size such as `512x512`")
        checked = validate_record(record, {path[-1]: value}, {path[-1]: setting.expr.span}, setting.span)
        return getattr(checked, path[-1])

    def _read_class_names(self) -> Any:
        setting = self.settings.values.get(CLASSES_PATH)
        if setting is None:
            return tuple(self.classes or ("class_0", "class_1"))
        # A mere number of classes, as from a checkpoint, does not replace names if there are as many of them.
        names = self._read_declared_classes(setting)
        if self.classes is None or (self.has_class_count and len(self.classes) == len(names)):
            return names
        return tuple(self.classes)

    def _read_declared_classes(self, setting: Setting) -> tuple[str, ...]:
        names = self._read_setting(setting, SECTIONS["data"].model_fields["classes"], "classes")
        if names is None:
            return ("class_0", "class_1")
        _check_class_names(names, setting.expr)
        return names

    def _read_setting(self, setting: Setting, info: Any, name: str) -> Any:
        frame = Frame(self.context, setting.file)
        if not setting.changes:
            return convert_field(setting.expr, info, frame, name)
        expr = setting.expr
        word = lookup_component(expr.func, frame) if isinstance(expr, tree.Call) else None
        family = find_word_family(info.annotation)
        if not (isinstance(word, type) and family and issubclass(word, family)):
            convert_field(setting.expr, info, frame, name)
            first = next(iter(setting.changes.values()))
            message = "only arguments of a component can be changed, but this value is not a component"
            raise eval_error("nothing-to-change", first.span, message, "set the whole value instead")
        bound = match_setting_arguments(setting, list(word.model_fields), word.__name__, self.context)
        value = build_word(word, bound, expr.span)
        return (value,) if typing.get_origin(info.annotation) is tuple else value

    def build_section(self, section: str) -> Any:
        """Return the record of a whole section, or POISON if one of its keys is invalid."""
        return self._build_subsection(SECTIONS[section], (section,))

    def _build_subsection(self, kind: type[Section], prefix: Path) -> Any:
        values: dict[str, Any] = {}
        for name, info in kind.model_fields.items():
            path = (*prefix, name)
            if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
                values[name] = self._build_subsection(info.annotation, path)
            elif typing.get_origin(info.annotation) is dict:
                values[name] = self._build_mapping(path, info)
            elif path != CLASSES_PATH or path in self.settings.values or self.classes is not None:
                values[name] = self.read_value(path)
        if any(isinstance(v, Poison) for v in values.values()):
            return POISON
        if prefix == ("data",):
            if isinstance(self.read_target_classes(), Poison):
                return POISON
            # The settings about declared classes do not apply to placeholders.
            if self.has_class_count:
                values |= {"exclude": (), "remap": (), "values": None}
        # Every value is already validated by its own field.
        return kind.model_construct(**values)

    def _build_mapping(self, prefix: Path, info: Any) -> Any:
        family = typing.get_args(info.annotation)[1]
        found: dict[str, Any] = {}
        for path, setting in self.settings.values.items():
            if path[:-1] != prefix:
                continue
            try:
                found[path[-1]] = self._read_setting(setting, type(info)(annotation=family), path[-1])
            except EvalStop as signal:
                if signal.diagnostic:
                    self.context.report(signal.diagnostic)
                found[path[-1]] = POISON
        return POISON if any(isinstance(v, Poison) for v in found.values()) else found

    def read_weight_sources(self) -> dict[str, str]:
        """Return the weight sources by the model path that they initialize."""
        found: dict[str, str] = {}
        for path, setting in self.settings.values.items():
            if path[0] != "weights" or path == ADAPT_PATH:
                continue
            try:
                value = evaluate_expr(setting.expr, Frame(self.context, setting.file), None)
                if value is None:
                    continue
                if not isinstance(value, str):
                    raise eval_error(
                        "wrong-type",
                        setting.expr.span,
                        f"a weight source must be a string, got {describe_value(value)}",
                        'write the path of a file, such as "backbone.safetensors", or `none`',
                    )
                found[".".join(path[1:])] = value
            except EvalStop as signal:
                if signal.diagnostic:
                    self.context.report(signal.diagnostic)
        return found

    def read_adapt_weights(self) -> bool:
        """Return `weights.adapt`: whether stem filters may be adapted to the number of image channels."""
        setting = self.settings.values.get(ADAPT_PATH)
        if setting is None:
            return False
        try:
            value = evaluate_expr(setting.expr, Frame(self.context, setting.file), None)
            if not isinstance(value, bool):
                message = f"`weights.adapt` must be `true` or `false`, got {describe_value(value)}"
                help = "write `adapt = true` to adapt the first filters to the number of image channels"
                raise eval_error("wrong-type", setting.expr.span, message, help)
            return value
        except EvalStop as signal:
            if signal.diagnostic:
                self.context.report(signal.diagnostic)
            return False


def _check_class_names(names: tuple[str, ...], expr: tree.Expr) -> None:
    """Raise :class:`EvalStop` for the first fault among the names of the classes, which ``expr`` lists."""

    def find_places(name: str) -> list[Span]:
        return _find_element_spans(expr, lambda e: isinstance(e, tree.Constant) and e.value == name)

    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        places = find_places(duplicates[0])
        raise eval_error(
            "class-twice",
            places[-1],
            f'two classes are named "{duplicates[0]}"',
            "use a different name for every class",
            labels=[Label(places[0], "first used here")] if len(places) > 1 else [],
        )
    if len(names) < 2:
        message = f"segmentation needs at least two classes, got {len(names)}"
        raise eval_error("too-few-classes", expr.span, message, "add the background as a class")
    unnamed = next((name for name in names if not name.strip()), None)
    if unnamed is not None:
        raise eval_error(
            "class-unnamed", find_places(unnamed)[0], "this class name is empty", "give every class a name"
        )
    invalid = next((name for name in names if has_control_character(name)), None)
    if invalid is not None:
        raise eval_error("class-control-character", find_places(invalid)[0], *describe_control_character(invalid))


def _find_element_spans(expr: tree.Expr, predicate: Callable[[tree.Expr], bool]) -> list[Span]:
    """Return the places of the matching elements of a list literal, or of the whole expression if none matches."""
    items = expr.items if isinstance(expr, tree.ListExpr) else ()
    return [item.span for item in items if predicate(item)] or [expr.span]


def _locate_path_part(path: Path, position: int, span: Span) -> Span:
    """Return the place of one part of a path that is written at ``span``."""
    # The path may be written with blanks, or over several lines.
    if span.end - span.start != len(".".join(path)):
        return span
    start = span.start + len(".".join((*path[:position], "")))
    return Span(span.file, start, start + len(path[position]))


def _lookup_key(path: Path) -> tuple[type[Section], Any]:
    kind: Any = SECTIONS[path[0]]
    for name in path[1:-1]:
        kind = kind.model_fields[name].annotation
    return kind, kind.model_fields[path[-1]]
