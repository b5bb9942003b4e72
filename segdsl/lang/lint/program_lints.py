"""What a whole program is held against: errors between sections, and warnings about what is legal and doubtful."""

from __future__ import annotations

from collections.abc import Mapping

from segdsl.diagnostics import Diagnostic, Sink, Span, suggest
from segdsl.ir.graph import Op
from segdsl.ir.labels import offered
from segdsl.ir.monitor import class_of
from segdsl.ir.program import Eval, Loss, Program
from segdsl.ir.shape import Shape, shape_at, show
from segdsl.lang.settings.merge import Settings
from segdsl.ops.act import Identity, ReLU, Sigmoid, Softmax
from segdsl.ops.drop import Noise
from segdsl.ops.factor import NMF
from segdsl.ops.pool import AdaptiveAvgPool
from segdsl.ops.resize import ResizeTo
from segdsl.syntax import tree
from segdsl.words.augmentations import ClassMix, VerticalFlip


def lint(program: Program, sink: Sink, settings: Settings, outs: Mapping[str, Span], named: bool) -> None:
    """Adds the findings to ``sink``; ``outs`` says where each output of the model comes from, ``named`` whether the
    classes have their names and are no placeholders."""
    _label_space(program, sink, outs)
    _factorised(program, sink)
    if named:
        _augmentation(program, sink)
        _monitored(program, sink)
    _paths(program, sink, settings)
    _without_effect(program, sink)


def _without_effect(program: Program, sink: Sink) -> None:
    """Settings that change nothing as the others stand."""
    said = program.eval
    if said.overlap != Eval().overlap and said.tile is None and said.scales == (1.0,):
        sink.add(unused_overlap("`eval.overlap`", "`eval.tile = data.input_size`", at_path(program, "eval.overlap")))
    weights = getattr(program.train.loss, "weights", None)
    if weights and not any(weights):
        message = "every loss of the sum has the weight 0, so that nothing is learnt"
        span = at_path(program, "train.loss.weights")
        warn(sink, "loss-without-weight", message, "leave `weights` out, which makes all of them 1", span)


def unused_overlap(name: str, tile: str, span: Span | None) -> Diagnostic:
    """The warning of an overlap without windows, which ``name`` says, and ``tile`` would make."""
    message = f"{name} changes nothing: images are shown whole, and only windows overlap"
    return Diagnostic("overlap-without-windows", message, f"add {tile}, or leave it out", span=span, severity="warning")


def at_path(program: Program, path: str) -> Span | None:
    """Where a path, or the nearest thing above it, was set."""
    while path and path not in program.spans:
        path = path.rpartition(".")[0]
    return program.spans.get(path)


def warn(sink: Sink, slug: str, message: str, help: str, span: Span | None) -> None:
    """Adds a warning."""
    sink.add(Diagnostic(slug, message, help, span=span, severity="warning"))


def _label_space(program: Program, sink: Sink, outs: Mapping[str, Span]) -> None:
    classes, ignore = len(program.classes), program.void
    if ignore < classes:
        message = (
            f"the ignored value {ignore} is also the class {program.classes[ignore]!r}, which is then never learnt"
        )
        warn(
            sink,
            "ignore-is-class",
            message.replace("'", '"'),
            "use a value that is no class, such as 255",
            at_path(program, "data.ignore"),
        )
    _class_weights(program, program.train.loss, sink)
    shapes = program.graph.shapes()
    for name, path in program.graph.outputs.items():
        _output(name, shapes[path], program, sink, outs.get(name) or at_path(program, "model"))


def _class_weights(program: Program, loss: Loss | None, sink: Sink) -> None:
    """Holds the weights of classes against the classes that are learnt, where the program names them."""
    for inner in getattr(loss, "losses", ()):
        _class_weights(program, inner, sink)
    weights = getattr(loss, "class_weights", None)
    if weights in (None, "auto") or program.assumed_classes or len(weights) == len(program.classes):
        return
    names = ", ".join(program.classes[:8]) + (", …" if len(program.classes) > 8 else "")
    message = f"`class_weights` has {len(weights)} numbers for {len(program.classes)} classes"
    help = f"give one for each, in this order: {names}"
    sink.add(Diagnostic("class-weights-count", message, help, span=at_path(program, "train.loss.class_weights")))


def _output(name: str, shape: Shape, program: Program, sink: Sink, made: Span | None) -> None:
    """Holds an output against the label space and the size of the images; ``made`` is where it comes from."""
    classes = len(program.classes)
    if len(shape) != 4:
        message = f"`{name}` of a model is a map [B, classes, H, W], got {show(shape)}"
        sink.add(Diagnostic("wrong-rank", message, "turn tokens into a map with `ToMap(like = …)`", span=made))
        return
    if shape[1] != classes:
        assumed = program.assumed_classes
        data = f"the data has {classes} classes"
        if assumed:
            data = f"and `data.classes` is left out: {classes} are assumed"
        sink.add(
            Diagnostic(
                "class-count-mismatch",
                f"`{name}` has {shape[1]} channels, {data}",
                "pass the number on: `classes = len(data.classes)`",
                span=at_path(program, "model.classes"),
                severity="warning" if assumed else "error",
            )
        )
    if shape_at(shape[2:], program.graph.env) != program.graph.size:
        message = f"`{name}` has the shape {show(shape)}, and the masks have the size of the image, HxW"
        help = f"end the model with `-> ResizeTo({next(iter(program.graph.inputs))})`"
        sink.add(Diagnostic("output-size", message, help, span=made))


UPRIGHT = frozenset({"sky", "road", "ground", "floor", "ceiling", "sidewalk", "pavement", "horizon", "roof", "street"})
"""Names of classes that lie above or below the others in every picture, in lower case."""


def _augmentation(program: Program, sink: Sink) -> None:
    """Steps that the classes speak against, and classes that a step names and nobody learns."""
    for name, word in program.data.train.augment.items():
        span = at_path(program, f"data.train.augment.{name}")
        if isinstance(word, VerticalFlip) and word.p > 0:
            upright = [c for c in program.classes if c.lower() in UPRIGHT]
            if upright:
                message = f"the image is turned upside down, and `{upright[0]}` is a class that has its place"
                warn(sink, "flip-upside-down", message, "take the flip out; `HorizontalFlip` stays right", span)
        if isinstance(word, ClassMix):
            for unknown in [c for c in word.classes or () if c not in program.classes]:
                message, help = f"there is no class `{unknown}`", offered(unknown, program.classes)
                sink.add(Diagnostic("class-unknown", message, help, span=span))


def _monitored(program: Program, sink: Sink) -> None:
    """A score of a class that there is none of would stay unknown in every epoch."""
    name = class_of(program.train.monitor)
    if name is not None and name not in program.classes:
        message = f"`{program.train.monitor}` cannot be watched: there is no class `{name}`"
        help = offered(name, program.classes)
        sink.add(Diagnostic("class-unknown", message, help, span=at_path(program, "train.monitor")))


def _factorised(program: Program, sink: Sink) -> None:
    """A factorisation without negative factors needs a map without negative numbers: what an activation gives."""
    nodes = {node.path: node for node in program.graph.nodes}
    for node in nodes.values():
        if not isinstance(node.op, NMF):
            continue
        source = nodes.get(node.operands[0])
        while source is not None and _keeps_signs(source.op):
            source = nodes.get(source.operands[0])
        if source is None or not isinstance(source.op, ReLU | Sigmoid | Softmax | NMF):
            message = "`NMF` factorises a map without negative numbers, and what flows in may have some"
            warn(sink, "nmf-of-negative", message, "let it flow through `ReLU()` first", node.span)


def _keeps_signs(op: Op) -> bool:
    """Whether what comes out has no negative number where what went in had none."""
    if isinstance(op, ResizeTo):
        return op.mode != "bicubic"
    return isinstance(op, Identity | Noise | AdaptiveAvgPool) and not isinstance(op, NMF)


def parts_with_state(program: Program) -> set[str]:
    """The paths of all parts of the graph that have parameters."""
    known = {node.module for node in program.graph.nodes if node.module}
    return {".".join(m.split(".")[:i]) for m in known for i in range(1, m.count(".") + 2)}


def _paths(program: Program, sink: Sink, settings: Settings) -> None:
    prefixes = parts_with_state(program)
    for position, path in enumerate(program.train.freeze):
        place = _element(settings, position)
        if path not in prefixes:
            no_such_part(path, prefixes, sink, place)
        elif not any(w == "model" or path == w or path.startswith(w + ".") for w in program.weights):
            sink.add(_frozen_random(path, place))
    for path, source in program.weights.items():
        setting = settings.values[("weights", *path.split("."))]
        if path != "model" and path not in prefixes:
            no_such_part(path, prefixes, sink, setting.span)
        else:
            _weight_source(source, sink, setting.expr.span)


def _weight_source(text: str, sink: Sink, span: Span) -> None:
    from segdsl.words.published import SourceError, parse_source

    try:
        parse_source(text)
    except SourceError as error:
        sink.add(Diagnostic("weights-source", error.message, error.help, span=span))


def frozen_at_random(program: Program) -> list[Diagnostic]:
    """The warnings for a program whose `weights` are not loaded: every frozen part keeps its random start."""
    return [_frozen_random(path, at_path(program, "train.freeze")) for path in program.train.freeze]


def _frozen_random(path: str, span: Span | None) -> Diagnostic:
    message = f"`{path}` is frozen, and nothing fills its weights: it stays random"
    help = f'load it: `weights {{ {path} = "…" }}`, or do not freeze it'
    return Diagnostic("frozen-random", message, help, span=span, severity="warning")


def _element(settings: Settings, position: int) -> Span | None:
    """Where an element of `train.freeze` stands; the whole value where it is not written as a list."""
    setting = settings.values.get(("train", "freeze"))
    if setting is None:
        return None
    items = setting.expr.items if isinstance(setting.expr, tree.ListExpr) else ()
    return items[position].span if position < len(items) else setting.expr.span


def no_such_part(path: str, known: set[str], sink: Sink, span: Span | None) -> None:
    """Adds the error of a path that is not among the ``known``, with the one that was meant."""
    tops = {p for p in known if p.count(".") <= path.count(".")}
    sink.add(
        Diagnostic(
            "unknown-graph-path",
            f"the graph has no part `{path}` with parameters",
            suggest(path, tops, "parts"),
            span=span,
        )
    )
