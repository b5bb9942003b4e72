"""The command `compile`: size and cost of a program's model part by part, and the model in other formats."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segdsl import verbs
from segdsl.cli import streams
from segdsl.cli.result import CommandResult, json_option, set_option
from segdsl.cli.tables import format_part_table

if TYPE_CHECKING:
    from segdsl.ir.graph import Graph
    from segdsl.ir.parts import Part
    from segdsl.ir.program import Program
    from segdsl.lower.compiled import CompileResult

BASE_FILES = ("program.seg", "graph.json", "summary.json", "weights.safetensors")
TORCH_FILES = ("model.py", "weights.pt")
"""Files that `--out` writes: always, and with `--emit torch`."""
ELABORATE = "elaborate"
"""The name in `--dump` of the graph before any rewrite."""


@click.command("compile")
@click.argument("file")
@click.option("--classes", type=click.IntRange(min=1), metavar="N", help="Number of classes, instead of data.classes.")
@click.option(
    "--weights",
    metavar="SOURCE",
    help="Weights for the whole model, or `program` for those it names; random if omitted.",
)
@click.option("--depth", type=click.IntRange(min=1), default=2, show_default=True, help="Nesting levels in the table.")
@click.option(
    "--emit", type=click.Choice(["torch"]), help="Print the model as plain PyTorch, or write it to DIR with --out."
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Write program, graph and weights to this folder."
)
@click.option(
    "--dump",
    metavar="REWRITE",
    help="Print the graph after this rewrite; `elaborate` prints it before any, an unknown name lists them.",
)
@set_option
@json_option
def compile_command(**options: Any) -> CommandResult:
    """Build the model of a program and print its parts.

    One line per part: output sizes, parameters and operations.
    """
    request = CompileRequest(**options)
    if request.dump is not None:
        if request.emit or request.out is not None or request.weights is not None:
            raise click.UsageError("--dump only prints a graph: remove --emit, --out and --weights.")
        return _dump_graph(request, request.dump)
    if request.emit and request.out is None and request.weights not in (None, "none"):
        raise click.UsageError("--emit with --weights needs --out DIR to write the weights to.")
    return _build_model(request)


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """The arguments and options of the command."""

    file: str
    classes: int | None
    weights: str | None
    depth: int
    emit: str | None
    out: Path | None
    dump: str | None
    overrides: tuple[str, ...]


def _build_model(request: CompileRequest) -> CommandResult:
    from segdsl.ir.parts import build_parts

    begin, out = time.perf_counter(), request.out
    # The folder is checked before the model is built: a refusal must not cost a download of weights.
    if out is not None:
        _check_out_folder(out)
    compiled = compile_with_progress(request.file, request.overrides, request.classes, request.weights)
    program = compiled.program
    whole = build_parts(program.graph, program.train.freeze)
    reports = [report.as_json() for report in compiled.load_reports]
    data = {**summarize_model(program, whole, request.depth), "weights": reports}
    # Without the time of writing: the summary is one of the files that are written.
    data["seconds"] = round(time.perf_counter() - begin, 3)
    text = emit_torch_source(program) if request.emit else ""
    if out is not None:
        _write_model_folder(compiled, out, data, text)
    elif text:
        data["torch"] = text
    report = text if text and out is None else _format_model_report(compiled, whole, data, request.depth, out)
    return CommandResult(data, report, findings=program.warnings, sources=_collect_source_texts(program))


def compile_with_progress(
    file: str, overrides: tuple[str, ...], classes: int | Sequence[str] | None, weights: str | None
) -> CompileResult:
    """Compile a program with weights from a source, showing a progress bar while they download."""
    if weights in (None, "none"):
        return verbs.compile(file, overrides, classes)
    from segdsl.run.console.fetch_display import FetchDisplay

    with FetchDisplay() as watcher:
        return verbs.compile(file, overrides, classes, weights, watcher=watcher)


def summarize_model(program: Program, root_part: Part, depth: int) -> dict[str, Any]:
    """Return the JSON summary of a program: sizes and counts for one image at `data.input_size`, and of its parts."""
    from segdsl.ir.shape import evaluate_shape
    from segdsl.passes import run_passes

    graph = program.graph
    shapes = graph.collect_shapes()
    return {
        "name": program.name,
        "params": root_part.parameters,
        "trainable_params": root_part.trained,
        "fixed_params": root_part.fixed,
        "macs": root_part.macs,
        # Two operations per multiply-accumulate; papers that call MACs "FLOPs" report half of this number.
        "flops": 2 * root_part.macs,
        "computed_flops": 2 * run_passes(graph).count_macs(),
        "input": list(evaluate_shape(next(iter(graph.inputs.values())), graph.env)),
        "logits": list(evaluate_shape(shapes[next(iter(graph.outputs.values()))], graph.env)),
        "nodes": len(graph.nodes),
        "parts": [_summarize_part(part) for _, part in root_part.walk_rows(depth)],
    }


def _summarize_part(part: Part) -> dict[str, Any]:
    return {
        "path": part.path,
        "outputs": [list(shape) for shape in part.outputs],
        "params": part.parameters,
        "trainable_params": part.trained,
        "flops": 2 * part.macs,
    }


def emit_torch_source(program: Program) -> str:
    """Return the model of a program as a Python file of plain PyTorch."""
    from segdsl.data.decode.images import get_normalization
    from segdsl.lower.emit import emit_torch
    from segdsl.passes import run_passes

    mean, deviation = get_normalization(program.data.normalize, program.channels)
    kind = "RGB" if program.channels == 3 else f"{program.channels} channels"
    normalized = f"{kind} with mean {list(mean)} subtracted, then divided by {list(deviation)} (scale 0..255)"
    return emit_torch(run_passes(program.graph), f"{program.name}.seg", normalized)


def _format_model_report(
    compiled: CompileResult, root_part: Part, data: Mapping[str, Any], depth: int, out: Path | None
) -> str:
    from segdsl.weights.report import format_load_table

    program, graph = compiled.program, compiled.program.graph
    screen = sys.stdout
    table = format_part_table(
        root_part,
        {path: name for name, path in graph.outputs.items()},
        depth,
        width=streams.detect_width(screen),
        color=streams.wants_color(screen),
        unicode=streams.can_print("█▏…", screen),
    )
    classes = len(program.classes)
    head = f"{program.name}: {graph.name}, {classes} class{'es' if classes != 1 else ''} at {program.data.input_size}"
    if program.assumed_classes:
        head += "\n`data.classes` is not set: assuming two classes; set the number with --classes N"
    frozen = graph.count_parameters(("trained",)) - data["trainable_params"]
    lines = [
        f"parameters   {data['params']:,}: {data['trainable_params']:,} trained, {frozen:,} frozen, "
        f"{data['fixed_params']:,} fixed",
        f"GFLOPs       {data['flops'] / 1e9:.3f} per image (2 FLOPs per multiply-accumulate)",
    ]
    if data["computed_flops"] != data["flops"]:
        lines.append(f"             {data['computed_flops'] / 1e9:.3f} after sharing equal subgraphs")
    sizes = "x".join(map(str, data["input"])), "x".join(map(str, data["logits"]))
    lines.append(f"logits       {sizes[1]} for images of {sizes[0]}")
    if out is not None:
        lines.append(f"written to   {out}")
    if compiled.load_reports:
        lines += [
            "",
            *format_load_table(compiled.load_reports, compiled.find_random_parts(), streams.detect_width(screen)),
        ]
    return "\n".join([head, "", table, "", *lines])


def _dump_graph(request: CompileRequest, name: str) -> CommandResult:
    """Print the graph of a program after the rewrite ``name``: of the IR, or of the fx graph for later stages."""
    from segdsl.lang.program import load
    from segdsl.passes import PASSES, run_passes

    # Stages after the IR import torch, which takes seconds.
    stage = None if name == ELABORATE or name in PASSES else _find_later_stage(name)
    program = load(request.file, request.overrides, request.classes)
    data: dict[str, Any] = {"name": program.name, "pass": name, "stage": stage or "ir"}
    if stage is None:
        graph = program.graph if name == ELABORATE else run_passes(program.graph, until=name)
        text, data["graph"] = format_graph(graph), graph.model_dump(mode="json")
    else:
        from segdsl.export.stages import rewrite_until
        from segdsl.lower.fx_text import format_fx_graph, serialize_fx_graph

        model = rewrite_until(program, stage, name)
        text, data["graph"] = format_fx_graph(model), serialize_fx_graph(model)
    return CommandResult(data, text, findings=program.warnings, sources=_collect_source_texts(program))


def _find_later_stage(name: str) -> str:
    """Return the stage of a rewrite of the fx graph. Raises UsageError, which lists all rewrites by stage."""
    from segdsl.diagnostics import find_closest_name
    from segdsl.export.stages import IR_STAGE, find_stage, list_stages

    stage = find_stage(name)
    if stage is not None:
        return stage
    names = {stage: list(rewrites) for stage, rewrites in list_stages().items()}
    names[IR_STAGE].insert(0, ELABORATE)
    closest = find_closest_name(name, [rewrite for rewrites in names.values() for rewrite in rewrites])
    hint = f" Did you mean `{closest}`?" if closest else ""
    listed = "".join(f"\n  {stage}: {', '.join(rewrites)}" for stage, rewrites in names.items())
    raise click.UsageError(f"No such rewrite '{name}'.{hint} These exist, by stage and in order:{listed}")


def format_graph(graph: Graph) -> str:
    """Format a graph as text, one line per node: `path = Op(arguments)(operands): [shape]`."""
    from segdsl.ir.shape import format_shape

    lines = [f"in {path}: {format_shape(shape)}" for path, shape in graph.inputs.items()]
    for node in graph.nodes:
        arguments = ", ".join(f"{k}={v}" for k, v in node.op.model_dump(mode="json").items() if k != "word")
        operands = ", ".join(node.operands)
        lines.append(f"{node.path} = {type(node.op).__name__}({arguments})({operands}): {format_shape(node.shape)}")
    lines += [f"out {name} = {path}" for name, path in graph.outputs.items()]
    return "\n".join(lines)


def _collect_source_texts(program: Program) -> dict[str, str]:
    return {name: source.text for name, source in program.sources.items()}


def _write_model_folder(compiled: CompileResult, out: Path, data: Mapping[str, Any], torch_source: str) -> None:
    """Write `program.seg`, `graph.json`, `weights.safetensors` and `summary.json` to the folder ``out``.

    With ``torch_source``, also write `model.py` and the `weights.pt` that it loads.
    """
    import json

    from segdsl.diagnostics import SegError
    from segdsl.run.folder.layout import not_writable_error
    from segdsl.storage.draft_folders import open_draft_folder, publish_files

    texts = {
        "program.seg": compiled.program.resolved,
        "graph.json": compiled.program.graph.model_dump_json(indent=1),
        "summary.json": json.dumps(data, indent=1) + "\n",
        **({"model.py": torch_source} if torch_source else {}),
    }
    try:
        # Everything goes to a draft folder first, so that a full disk or a kill leaves no half-written file.
        with open_draft_folder(out) as draft:
            for name, text in texts.items():
                (draft / name).write_text(text, encoding="utf-8")
            _write_weights(compiled, draft, with_torch_file=bool(torch_source))
            # An earlier `compile` may have written these for another model: they would not match the new weights.
            for name in TORCH_FILES:
                (out / name).unlink(missing_ok=True)
            publish_files(draft, out, [*texts, "weights.safetensors", *(["weights.pt"] if torch_source else [])])
    except (OSError, RuntimeError, SegError) as error:
        # torch raises a bare RuntimeError when the disk is full, hence the second type.
        raise not_writable_error(out) from error


def _write_weights(compiled: CompileResult, folder: Path, with_torch_file: bool) -> None:
    import torch

    from segdsl.weights.adapt import INPUT_SIZE_KEY
    from segdsl.weights.files import save_weights

    program, model = compiled.program, compiled.model
    facts = {"program": program.resolved, INPUT_SIZE_KEY: str(program.data.input_size)}
    save_weights(model, folder / "weights.safetensors", facts)
    if with_torch_file:
        torch.save(model.state_dict(), folder / "weights.pt")


def _check_out_folder(out: Path) -> None:
    """Reject a folder that holds other files; those of an earlier `compile` may be replaced."""
    from segdsl.run.folder.layout import check_out

    if not all((out / name).is_file() for name in BASE_FILES):
        check_out(out)
