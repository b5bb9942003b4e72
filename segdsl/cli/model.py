"""Commands on programs, runs and exported models: compile, train, eval, export, predict, bench."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segdsl import verbs
from segdsl.cli.answer import Answer, json_option, set_option
from segdsl.cli.tables import facts_table, score_table

if TYPE_CHECKING:
    from segdsl.ir.graph import Graph
    from segdsl.ir.program import Program


@click.command()
@click.argument("file")
@click.option("--classes", type=click.IntRange(min=1), metavar="N", help="Number of classes, in place of data.classes.")
@click.option("--weights", metavar="FILE|none", help="Weights for the whole model; without it they are random.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Write program, graph and weights here.")
@click.option("--dump", metavar="PASS", help="Print the graph after this pass; `elaborate` is the graph before all.")
@set_option
@json_option
def compile(
    file: str, classes: int | None, weights: str | None, out: Path | None, dump: str | None, overrides: tuple[str, ...]
) -> Answer:
    """Build the model of a program and count what it costs."""
    begin = time.perf_counter()
    if dump is not None:
        return _dump(file, overrides, classes, dump)
    compiled = verbs.compile(file, overrides, classes, weights)
    program = compiled.program
    data = {**summary_of(program), "seconds": round(time.perf_counter() - begin, 3)}
    if out is not None:
        _write(program, compiled.model, out, data)
    return Answer(data, facts_table(data), findings=program.warnings, sources=_texts(program))


def summary_of(program: Program) -> dict[str, Any]:
    """What `compile` reports of a program: sizes and counts for one image at `data.input_size`."""
    from segdsl.ir.shape import shape_at

    graph = program.graph
    macs = graph.macs()
    shapes = graph.shapes()
    return {
        "name": program.name,
        "params": graph.parameters(),
        "trainable_params": trainable_parameters(program),
        "macs": macs,
        "flops": 2 * macs,
        "input": list(shape_at(next(iter(graph.inputs.values())), graph.env)),
        "logits": list(shape_at(shapes[next(iter(graph.outputs.values()))], graph.env)),
        "nodes": len(graph.nodes),
    }


def trainable_parameters(program: Program) -> int:
    """Scalars that training changes: those of kind `trained` outside of `train.freeze`."""
    import math

    frozen = tuple(program.train.freeze)
    state = program.graph.state()
    return sum(
        math.prod(int(str(n)) for n in s.shape)
        for key, s in state.items()
        if s.kind == "trained" and not any(key == path or key.startswith(f"{path}.") for path in frozen)
    )


def _dump(file: str, overrides: tuple[str, ...], classes: int | None, name: str) -> Answer:
    from segdsl.diagnostics import suggest
    from segdsl.lang.program import load
    from segdsl.passes import PASSES, run_passes

    known = ["elaborate", *PASSES]
    if name not in known:
        raise click.UsageError(f"There is no pass '{name}': {suggest(name, known, 'passes')}")
    program = load(file, overrides, classes)
    graph = program.graph if name == "elaborate" else run_passes(program.graph, until=name)
    data = {"name": program.name, "pass": name, "graph": graph.model_dump(mode="json")}
    return Answer(data, graph_text(graph), findings=program.warnings, sources=_texts(program))


def graph_text(graph: Graph) -> str:
    """A graph as text: a line for each node, `path = Op(arguments)(operands): [shape]`."""
    lines = [f"in {path}: {_shape(shape)}" for path, shape in graph.inputs.items()]
    for node in graph.nodes:
        arguments = ", ".join(f"{k}={v}" for k, v in node.op.model_dump(mode="json").items() if k != "word")
        operands = ", ".join(node.operands)
        lines.append(f"{node.path} = {type(node.op).__name__}({arguments})({operands}): {_shape(node.shape)}")
    lines += [f"out {name} = {path}" for name, path in graph.outputs.items()]
    return "\n".join(lines)


def _shape(shape: tuple[Any, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _texts(program: Program) -> dict[str, str]:
    return {name: source.text for name, source in program.sources.items()}


def _write(program: Program, model: Any, out: Path, data: dict[str, Any]) -> None:
    """Fills ``out`` with `program.seg`, `graph.json`, `weights.safetensors` and `summary.json`."""
    import json

    from segdsl.diagnostics import fail
    from segdsl.lower.positions import MADE_FOR
    from segdsl.lower.weights import save_weights

    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise fail("out-not-a-folder", f"the output `{out}` is a file", "name a folder", path=str(out)) from None
    (out / "program.seg").write_text(program.resolved, encoding="utf-8")
    (out / "graph.json").write_text(program.graph.model_dump_json(indent=1), encoding="utf-8")
    (out / "summary.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    save_weights(
        model, out / "weights.safetensors", {"program": program.resolved, MADE_FOR: str(program.data.input_size)}
    )


@click.command()
@click.argument("file")
@click.option("--data", "root", metavar="ROOT", help="Folder of the data set, in place of data.root.")
@click.option("--weights", metavar="FILE|none", help="Weights to start from; none starts from random ones.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run folder; else a new one in runs/.")
@set_option
@json_option
def train(file: str, root: str | None, weights: str | None, out: Path | None, overrides: tuple[str, ...]) -> Answer:
    """Train a program.

    The run folder holds its weights, log and curves.
    """
    result = verbs.train(file, overrides, data=root, weights=weights, out=out)
    data = {
        "run": str(result.run),
        "epochs": result.epochs,
        "best": result.best,
        "seconds": round(result.seconds, 3),
    }
    return Answer(data)


@click.command("eval")
@click.argument("model", metavar="RUN|MODEL.xml")
@click.option("--data", "root", metavar="ROOT", help="Folder of the data set, in place of the run's own.")
@click.option("--subset", default="val", show_default=True, metavar="S", help="The subset to score on.")
@set_option
@json_option
def evaluate(model: str, root: str | None, subset: str, overrides: tuple[str, ...]) -> Answer:
    """Score a run or an exported model.

    Counts are summed over the subset, at the size of the images.
    """
    data = verbs.evaluate(model, root, subset, overrides)
    return Answer(data, score_table(data))


@click.command()
@click.argument("run")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), help="In place of what the program says.")
@set_option
@json_option
def export(run: str, precision: str | None, overrides: tuple[str, ...]) -> Answer:
    """Write a run's best weights as an OpenVINO model.

    The model carries its program and its class names, so that eval and predict need nothing else.
    """
    from dataclasses import asdict

    data = asdict(verbs.export(run, precision, overrides))
    return Answer(data, facts_table(data))


@click.command()
@click.argument("model", metavar="RUN|MODEL.xml")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where the pictures go.")
@json_option
def predict(model: str, inputs: tuple[str, ...], out: Path) -> Answer:
    """Segment images, or folders of them.

    Writes an index mask and an overlay for each.
    """
    data = verbs.predict(model, inputs, out)
    return Answer(data, facts_table(data))


@click.command()
@click.argument("model", metavar="FILE|RUN|MODEL.xml")
@json_option
def bench(model: str) -> Answer:
    """Measure how fast a program, run or exported model is."""
    from segdsl.export.bench import bench as measure

    data = measure(model)
    return Answer(data, facts_table(data))


COMMANDS = {
    "compile": compile,
    "train": train,
    "eval": evaluate,
    "export": export,
    "predict": predict,
    "bench": bench,
}
