"""Checks of a whole program: errors across sections, and warnings about legal but doubtful settings."""

from __future__ import annotations

from collections.abc import Mapping

from segdsl.diagnostics import Diagnostic, Sink, Span, suggest_name
from segdsl.ir.class_names import find_sided_classes, find_upright_classes
from segdsl.ir.labels import suggest_class
from segdsl.ir.monitor import extract_class
from segdsl.ir.parts import is_below
from segdsl.ir.program import Eval, Loss, Program
from segdsl.ir.shape import Shape, evaluate_shape, format_shape
from segdsl.lang.settings.merge import Settings
from segdsl.syntax import tree
from segdsl.text.listing import join_names

TEST_NAMES = ("test", "testing", "holdout", "hold_out")
"""Usual names of subsets for a last, unbiased score."""


def lint_program(
    program: Program, sink: Sink, settings: Settings, output_spans: Mapping[str, Span], has_class_names: bool
) -> None:
    """Check a program and add the findings to ``sink``.

    ``output_spans`` holds the origin of each model output. ``has_class_names`` is False while the classes are
    placeholders, which skips the checks that depend on their names.
    """
    _lint_label_space(program, sink, output_spans)
    _lint_negative_inputs(program, sink)
    _lint_single_values(program, sink)
    _lint_subsets(program, sink)
    if has_class_names:
        _lint_augmentation(program, sink)
        _lint_monitor(program, sink)
    _lint_graph_paths(program, sink, settings)
    _lint_ineffective_settings(program, sink)


def _lint_ineffective_settings(program: Program, sink: Sink) -> None:
    settings = program.eval
    # An overlap that is written out as the default cannot be told from one that is left out; neither does harm.
    if settings.overlap != Eval().overlap and settings.tile is None and settings.scales == (1.0,):
        sink.add(
            make_overlap_warning(
                "`eval.overlap`", "`eval.tile = data.input_size`", find_setting_span(program, "eval.overlap")
            )
        )
    loss = program.train.loss
    if loss is not None and not any(weight for weight, _ in loss.iterate_terms()):
        message = "every loss in this sum has weight 0, so the model learns nothing"
        span = find_setting_span(program, "train.loss.weights")
        add_warning(sink, "loss-without-weight", message, "remove `weights` to use weight 1 for every loss", span)


def make_overlap_warning(name: str, tile: str, span: Span | None) -> Diagnostic:
    """Return the warning about an overlap without windows. ``tile`` is the setting that would enable windows."""
    message = f"{name} has no effect: images are processed whole, without overlapping windows"
    return Diagnostic("overlap-without-windows", message, f"add {tile}, or remove it", span=span, severity="warning")


def find_setting_span(program: Program, path: str) -> Span | None:
    """Return the place where a path, or the nearest path above it, is set."""
    while path and path not in program.spans:
        path = path.rpartition(".")[0]
    return program.spans.get(path)


def add_warning(sink: Sink, slug: str, message: str, help: str, span: Span | None) -> None:
    sink.add(Diagnostic(slug, message, help, span=span, severity="warning"))


def _lint_label_space(program: Program, sink: Sink, output_spans: Mapping[str, Span]) -> None:
    classes, ignore = len(program.classes), program.void
    if ignore < classes:
        message = (
            f"the ignore value {ignore} is also the id of class {program.classes[ignore]!r}, which is never learned"
        )
        add_warning(
            sink,
            "ignore-is-class",
            message.replace("'", '"'),
            "use a value that is not a class id, such as 255",
            find_setting_span(program, "data.ignore"),
        )
    for _, loss in program.train.loss.iterate_terms() if program.train.loss is not None else ():
        _lint_class_weights(program, loss, sink)
    shapes = program.graph.collect_shapes()
    for name, path in program.graph.outputs.items():
        _lint_output(name, shapes[path], program, sink, output_spans.get(name) or find_setting_span(program, "model"))


def _lint_class_weights(program: Program, loss: Loss, sink: Sink) -> None:
    for name, weights in loss.get_class_weights().items():
        if weights == "auto" or program.assumed_classes or len(weights) == len(program.classes):
            continue
        message = f"`{name}` has {len(weights)} values for {len(program.classes)} classes"
        help = f"write one value per class, in this order: {join_names(program.classes)}"
        span = find_setting_span(program, f"train.loss.{name}")
        sink.add(Diagnostic("class-weights-count", message, help, span=span))


def _lint_output(name: str, shape: Shape, program: Program, sink: Sink, origin: Span | None) -> None:
    """Check that an output has one channel per class and the size of the images; ``origin`` is its place."""
    classes = len(program.classes)
    if len(shape) != 4:
        message = f"the model output `{name}` must be a map [B, classes, H, W], got {format_shape(shape)}"
        sink.add(Diagnostic("wrong-rank", message, "convert tokens to a map with `ToMap(like = …)`", span=origin))
        return
    if shape[1] != classes:
        assumed = program.assumed_classes
        data = f"but the dataset has {classes} classes"
        if assumed:
            # The dataset may turn out to have the right number, so this is only a warning.
            data = f"but `data.classes` is not set, so {classes} classes are assumed"
        sink.add(
            Diagnostic(
                "class-count-mismatch",
                f"the model output `{name}` has {shape[1]} channels, {data}",
                "pass the number of classes to the model: `classes = len(data.classes)`",
                span=find_setting_span(program, "model.classes"),
                severity="warning" if assumed else "error",
            )
        )
    if evaluate_shape(shape[2:], program.graph.env) != program.graph.size:
        message = f"the model output `{name}` has shape {format_shape(shape)}, but masks have the image size HxW"
        help = f"end the model with `-> ResizeTo({next(iter(program.graph.inputs))})`"
        sink.add(Diagnostic("output-size", message, help, span=origin))


def _lint_augmentation(program: Program, sink: Sink) -> None:
    upright, sided = find_upright_classes(program.classes), find_sided_classes(program.classes)
    for name, word in program.data.train.augment.items():
        span = find_setting_span(program, f"data.train.augment.{name}")
        if upright and word.turns_upside_down:
            message = (
                f"`{type(word).__name__}` turns images upside down, but class `{upright[0]}` has a fixed orientation"
            )
            add_warning(sink, "flip-upside-down", message, word.upright_help, span)
        if sided and word.swaps_sides:
            message = f"`{type(word).__name__}` mirrors images, but class `{sided[0]}` is not the same in a mirror"
            help = f"remove it, or write `drop data.train.augment.{name}` if it is inherited"
            add_warning(sink, "flip-swaps-sides", message, help, span)
        for unknown in (c for c in word.list_class_names() if c not in program.classes):
            message, help = f"unknown class `{unknown}`", suggest_class(unknown, program.classes)
            sink.add(Diagnostic("class-unknown", message, help, span=span))


def _lint_monitor(program: Program, sink: Sink) -> None:
    # The score of an unknown class would be undefined in every epoch, and no checkpoint would ever be the best.
    name = extract_class(program.train.monitor)
    if name is not None and name not in program.classes:
        message = f"cannot monitor `{program.train.monitor}`: unknown class `{name}`"
        help = suggest_class(name, program.classes)
        sink.add(Diagnostic("class-unknown", message, help, span=find_setting_span(program, "train.monitor")))


def _lint_negative_inputs(program: Program, sink: Sink) -> None:
    # Look through ops that preserve the sign of their input to the one that decides it.
    nodes = {node.path: node for node in program.graph.nodes}
    for node in nodes.values():
        if not node.op.needs_nonnegative_input:
            continue
        source = nodes.get(node.operands[0])
        while source is not None and source.op.get_output_sign() == "input":
            source = nodes.get(source.operands[0])
        if source is None or source.op.get_output_sign() != "nonnegative":
            name = type(node.op).__name__
            message = f"`{name}` needs a non-negative input, but this input may contain negative values"
            add_warning(sink, "nmf-of-negative", message, "apply `ReLU()` before it", node.span)


def _lint_subsets(program: Program, sink: Sink) -> None:
    train, val = program.data.train.subset, program.data.val.subset
    span = find_setting_span(program, "data.val.subset")
    if train == val:
        message = f"the subset `{val}` is used for both training and validation, so scores would be of what was learned"
        help = "move about a fifth of its images with their masks into a second subset, and set `data.val.subset` to it"
        sink.add(Diagnostic("subset-shared", message, help, span=span))
    elif val.lower() in TEST_NAMES:
        message = f"the subset `{val}` chooses the best checkpoint, so its score will be better than on new images"
        help = f"choose by another one (`data.val.subset`), and score this one later: `segdsl eval RUN --subset {val}`"
        add_warning(sink, "test-chooses", message, help, span)


def _lint_single_values(program: Program, sink: Sink) -> None:
    shapes, freeze = program.graph.collect_shapes(), program.train.freeze
    for node in program.graph.nodes if program.data.train.batch == 1 else ():
        # A frozen norm uses its running statistics.
        is_frozen = any(is_below(node.module or node.path, path) for path in freeze)
        if not node.op.normalizes_batch or is_frozen:
            continue
        if evaluate_shape(shapes[node.operands[0]][2:], program.graph.env) == (1, 1):
            message = "in training, this norm gets a single value per channel: one image in a batch, and a map of 1x1"
            help = "set `data.train.batch` to 2 or more, or remove the norm behind the pooling"
            sink.add(Diagnostic("norm-of-one-value", message, help, span=node.span))


def collect_stateful_parts(program: Program) -> set[str]:
    """Return the paths of all parts of the graph that have parameters."""
    known = {node.module for node in program.graph.nodes if node.module}
    return {".".join(m.split(".")[:i]) for m in known for i in range(1, m.count(".") + 2)}


def _lint_graph_paths(program: Program, sink: Sink, settings: Settings) -> None:
    prefixes = collect_stateful_parts(program)
    for position, path in enumerate(program.train.freeze):
        place = _find_freeze_span(settings, position)
        if path not in prefixes:
            report_unknown_part(path, prefixes, sink, place)
        elif not any(w == "model" or path == w or path.startswith(w + ".") for w in program.weights):
            sink.add(_make_frozen_random_warning(path, place))
    for path, source in program.weights.items():
        setting = settings.values[("weights", *path.split("."))]
        if path != "model" and path not in prefixes:
            report_unknown_part(path, prefixes, sink, setting.span)
        else:
            _lint_weight_source(source, sink, setting.expr.span)


def _lint_weight_source(text: str, sink: Sink, span: Span) -> None:
    from segdsl.words.published import SourceError, parse_source

    try:
        parse_source(text)
    except SourceError as error:
        sink.add(Diagnostic("weights-source", error.message, error.help, span=span))


def find_random_frozen_parts(program: Program) -> list[Diagnostic]:
    """Return the warnings for a program whose `weights` are not loaded: every frozen part stays random."""
    return [
        _make_frozen_random_warning(path, find_setting_span(program, "train.freeze")) for path in program.train.freeze
    ]


def _make_frozen_random_warning(path: str, span: Span | None) -> Diagnostic:
    message = f"`{path}` is frozen but loads no weights, so it keeps its random initialization"
    help = f'load weights for it, `weights {{ {path} = "…" }}`, or do not freeze it'
    return Diagnostic("frozen-random", message, help, span=span, severity="warning")


def _find_freeze_span(settings: Settings, position: int) -> Span | None:
    """Return the place of an element of `train.freeze`, or of the whole value if it is not a list literal."""
    setting = settings.values.get(("train", "freeze"))
    if setting is None:
        return None
    items = setting.expr.items if isinstance(setting.expr, tree.ListExpr) else ()
    return items[position].span if position < len(items) else setting.expr.span


def report_unknown_part(path: str, part_paths: set[str], sink: Sink, span: Span | None) -> None:
    """Add the error about a path that is not a part of the graph, with a suggestion."""
    # Deeper parts are left out: they are many, and a misspelt path has the depth that the author meant.
    tops = {p for p in part_paths if p.count(".") <= path.count(".")}
    sink.add(
        Diagnostic(
            "unknown-graph-path",
            f"the model has no part `{path}` with parameters",
            suggest_name(path, tops, "parts"),
            span=span,
        )
    )
