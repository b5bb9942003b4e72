"""CPU time from text to model: elaborating Lite-HRNet-x, lowering each of the seven models.

    python bench/compile.py [-n RUNS] [--enforce]

Elaboration (reading, merging and checking a program up to its graph) is compared with reading the finished graph from
JSON. Lowering (building the torch model from the graph) is compared with building the plain PyTorch class that `--emit
torch` writes. Everything runs in one process; results are medians of RUNS after a warm-up. ``growth`` is the time per
node in a network of eight times the depth, relative to the shallow one; 1 is linear. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segdsl.ir.graph import Graph
from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program
from segdsl.lower.emit import emit_torch
from segdsl.passes import run_passes

SPECS = Path(__file__).resolve().parents[1] / "specs"
SEVEN = ["litehrnet_s", "litehrnet_18", "litehrnet_x", "segnext_t", "segnext_s", "segnext_b", "dinov2"]
ELABORATE_LIMIT_S, LOWER_LIMIT_S = 0.5, 4.0
DEEP = """seg 1

extends "std/semantic.seg"
import "std/segnext.seg"

model Deep(classes: int) {{
  in image: [B, 3, H, W]

  backbone    = image -> MSCAN([8, 8, 8, 8], depths = [{depth}, {depth}, {depth}, {depth}])
  decode_head = last(backbone) -> Conv(classes)
  out logits = decode_head -> ResizeTo(image)
}}

model = Deep(classes = len(data.classes))
"""


def measure_cpu_seconds(work: Callable[[], Any], runs: int) -> float:
    """Return the median CPU time of ``work`` in seconds."""
    times = []
    # The first run fills caches and imports modules; it is not counted.
    for _ in range(runs + 1):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return statistics.median(times[1:])


def measure_lowering(name: str, runs: int) -> tuple[float, float]:
    """Return the CPU seconds to lower a program, and to build the same model as plain PyTorch."""
    program = load(SPECS / f"{name}.seg", classes=2)
    scope: dict[str, Any] = {}
    exec(emit_torch(run_passes(program.graph), name), scope)
    ours = measure_cpu_seconds(lambda: compile_program(program, weights="none"), runs)
    return ours, measure_cpu_seconds(scope[program.graph.name], runs)


def measure_growth(folder: Path, runs: int) -> float:
    """Return the time per node of a deep network relative to that of a shallow one."""
    costs = []
    for depth in (10, 80):
        file = folder / f"deep_{depth}.seg"
        file.write_text(DEEP.format(depth=depth), encoding="utf-8")
        costs.append(
            measure_cpu_seconds(lambda file=file: load(file, classes=2), runs) / len(load(file, classes=2).graph.nodes)
        )
    return costs[1] / costs[0]


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--runs", type=int, default=5, help="number of runs of each")
    parser.add_argument("--enforce", action="store_true", help="exit with 1 if a limit is exceeded")
    options = parser.parse_args()
    spec = SPECS / "litehrnet_x.seg"
    text = load(spec, classes=2).graph.model_dump_json()
    elaborate = measure_cpu_seconds(lambda: load(spec, classes=2), options.runs)
    back = measure_cpu_seconds(lambda: Graph.model_validate_json(text), options.runs)
    lowered = {name: measure_lowering(name, options.runs) for name in SEVEN}
    with tempfile.TemporaryDirectory() as folder:
        grown = measure_growth(Path(folder), options.runs)
    worst = max(ours for ours, _ in lowered.values())
    result = {
        "benchmark": "compile",
        "elaborate_litehrnet_x_s": round(elaborate, 3),
        "elaborate_limit_s": ELABORATE_LIMIT_S,
        "ratio_elaborate_to_json": round(elaborate / back, 2),
        "lower_s": {name: round(ours, 3) for name, (ours, _) in lowered.items()},
        "lower_worst_s": round(worst, 3),
        "lower_limit_s": LOWER_LIMIT_S,
        "ratio_lower_to_plain": {name: round(ours / plain, 2) for name, (ours, plain) in lowered.items()},
        "growth": round(grown, 2),
        "runs": options.runs,
    }
    print(json.dumps(result))
    if options.enforce and (elaborate > ELABORATE_LIMIT_S or worst > LOWER_LIMIT_S):
        sys.exit(1)


if __name__ == "__main__":
    main()
