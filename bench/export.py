"""Latency of each of the seven exported models, compared with the same graph exported without our passes.

    python bench/export.py [-n ROUNDS] [--only NAME …] [--threads N] [--reference perf_otx.json] [--enforce]

Both models are converted in one process from the same random weights, for two classes and one image of the program's
size. OpenVINO runs them alternately, in single precision and in the precision that the device prefers. `ratio` is the
median over the rounds of our time relative to that of the other. With `--reference` the times of OTX's models are
included. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

SPECS = Path(__file__).resolve().parents[1] / "specs"
SEVEN = {
    "litehrnet_s": "lite_hrnet_s",
    "litehrnet_18": "lite_hrnet_18",
    "litehrnet_x": "lite_hrnet_x",
    "segnext_t": "segnext_tiny",
    "segnext_s": "segnext_small",
    "segnext_b": "segnext_base",
    "dinov2": "dinov2-small-seg",
}
"""Names of the programs, and of their models in the reference."""
RATIO_LIMIT = 1.02


def convert_models(name: str) -> dict[str, Any]:
    """Return the OpenVINO models of a program with our passes and without."""
    import torch

    from segdsl.export.convert.deployable import DeployableModel
    from segdsl.export.convert.openvino import convert_to_openvino
    from segdsl.lang.program import load
    from segdsl.lower.compiled import compile_program
    from segdsl.lower.graph import build_module
    from segdsl.words.exports import name_exporters

    program = load(SPECS / f"{name}.seg", classes=2)
    torch.manual_seed(0)
    ours = compile_program(program, weights="none").model
    with torch.no_grad():
        for _, parameter in sorted(ours.named_parameters()):
            if parameter.dim() == 1:
                # Norms that start at zero would let the converter remove whole branches.
                parameter.add_(0.2 * torch.randn_like(parameter))
    plain = build_module(program.graph, {})
    plain.load_state_dict(ours.state_dict(), strict=False)
    form = name_exporters(program.export)["openvino"]
    return {
        "ours": convert_to_openvino(DeployableModel(ours, program, form), program)[0],
        "plain": convert_to_openvino(DeployableModel(plain, program, form, optimize=False), program)[0],
    }


def measure_latency(name: str, rounds: int, threads: int) -> dict[str, Any]:
    """Return the median latencies in ms, their ratio, and the numbers of nodes of both models."""
    import numpy as np

    from segdsl.inference.bench import measure_interleaved
    from segdsl.inference.models import openvino_runtime

    models = convert_models(name)
    image = np.random.default_rng(0).standard_normal(tuple(models["ours"].inputs[0].shape), np.float32)
    found: dict[str, Any] = {"nodes": {which: len(model.get_ops()) for which, model in models.items()}}
    core = openvino_runtime.get_core()
    for hint in ("f32", "device"):
        config = {"PERFORMANCE_HINT": "LATENCY", **({"INFERENCE_NUM_THREADS": threads} if threads else {})}
        if hint == "f32":
            config["INFERENCE_PRECISION_HINT"] = "f32"
        compiled = {which: core.compile_model(model, "CPU", config) for which, model in models.items()}
        times = measure_interleaved({which: lambda run=run: run(image) for which, run in compiled.items()}, rounds)
        ratios = [ours / plain for ours, plain in zip(times["ours"], times["plain"], strict=True)]
        found[hint] = {
            **{which: round(statistics.median(series), 2) for which, series in times.items()},
            "ratio": round(statistics.median(ratios), 3),
            "computes_in": openvino_runtime.read_compute_precision(compiled["ours"]),
        }
    return found


def read_reference(file: Path, name: str) -> dict[str, float]:
    """Return the latencies of the reference model in ms, at the size of its first OpenVINO measurement."""
    found = json.loads(file.read_text(encoding="utf-8"))["models"][SEVEN[name]].get("openvino", {})
    first = next(iter(found.values()), {})
    return {hint: first[key]["median_ms"] for hint, key in (("f32", "f32"), ("device", "default")) if key in first}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", "--rounds", type=int, default=31)
    parser.add_argument("--only", nargs="+", choices=SEVEN, default=list(SEVEN))
    parser.add_argument("--threads", type=int, default=0, help="number of threads; 0 lets OpenVINO choose")
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--enforce", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure_latency(options.one, options.rounds, options.threads)))
        return
    result: dict[str, Any] = {}
    # One process per program, so that memory and caches of one do not affect another.
    for name in options.only:
        command = [
            sys.executable,
            __file__,
            "--one",
            name,
            "-n",
            str(options.rounds),
            "--threads",
            str(options.threads),
        ]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        result[name] = json.loads(done.stdout)
        if options.reference:
            result[name]["reference"] = read_reference(options.reference, name)
    print(json.dumps({"bench": "export", "limit": RATIO_LIMIT, "models": result}))
    worst = max(found[hint]["ratio"] for found in result.values() for hint in ("f32", "device"))
    if options.enforce and worst > RATIO_LIMIT:
        sys.exit(f"ratio {worst} exceeds the limit {RATIO_LIMIT}")


if __name__ == "__main__":
    main()
