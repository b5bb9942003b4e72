"""Wall time of a training step of each of the seven models, and from the command to the end of the first step.

    python bench/training.py [-n RUNS] [--batch N] [--only NAME …] [--first-step DATA] [--enforce]

A step consists of forward, loss, backward and optimizer, at the program's size, on images in memory. Our model runs
alternately with a twin: the class that `--emit torch` writes for the graph before any pass, in NCHW layout, with the
same weights and torch's optimizer at its defaults. Each program runs in a separate process. `--first-step` measures
the wall time from the command to the end of the first step in excess of `import torch`, for Lite-HRNet-s at 128x128 on
a dataset that was checked before. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SPECS = Path(__file__).resolve().parents[1] / "specs"
SEVEN = ("litehrnet_s", "litehrnet_18", "litehrnet_x", "segnext_t", "segnext_s", "segnext_b", "dinov2")
RATIO_LIMIT, FIRST_LIMIT_S = 1.0, 4.0
FIRST = """
import os, sys
from torch.optim.optimizer import register_optimizer_step_post_hook
steps = []
def ended(*_):
    steps.append(1)
    # The first step is that of a copy, which train uses to try writing a checkpoint.
    if len(steps) == 2:
        os._exit(0)
register_optimizer_step_post_hook(ended)
from segdsl.cli import main
main()
"""


def build_steps(name: str, batch: int) -> dict[str, Callable[[], None]]:
    """Return functions that run a training step of our model and of its twin."""
    import torch

    from segdsl.lang.program import load
    from segdsl.lower.compiled import compile_program
    from segdsl.lower.emit import emit_torch
    from segdsl.lower.freeze import freeze_parts
    from segdsl.run.engine.criterion import build_criterion
    from segdsl.run.engine.setup import build_optimizer

    program = load(SPECS / f"{name}.seg", classes=2)
    loss, word, size = program.train.loss, program.train.optimizer, program.data.input_size
    assert loss is not None and word is not None
    criterion = build_criterion(loss, 2, program.void)
    scope: dict[str, Any] = {}
    exec(emit_torch(program.graph, name), scope)
    ours, twin = compile_program(program, weights="none").model, scope[program.graph.name]()
    twin.load_state_dict(copy.deepcopy(ours.state_dict()))
    freeze_parts(ours, program.train.freeze)
    for path in program.train.freeze:
        twin.get_submodule(path).requires_grad_(False).eval()
    ours = ours.to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, size.height, size.width, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 2, (batch, size.height, size.width), generator=torch.Generator().manual_seed(1))
    plain = {key: getattr(word, key) for key in ("lr", "weight_decay")}
    trained = [parameter for parameter in twin.parameters() if parameter.requires_grad]
    optimizers = {
        "ours": build_optimizer(word, ours),
        "twin": getattr(torch.optim, type(word).__name__)(trained, **plain),
    }
    models = {"ours": (ours, images.to(memory_format=torch.channels_last)), "twin": (twin, images)}

    def step(which: str) -> None:
        model, x = models[which]
        value = criterion(model(x), target)
        optimizers[which].zero_grad(set_to_none=True)
        value.backward()
        optimizers[which].step()

    return {which: lambda which=which: step(which) for which in models}


def measure_step(name: str, batch: int, runs: int) -> dict[str, float]:
    """Return the median milliseconds of a step of each, and their ratio."""
    works = build_steps(name, batch)
    times: dict[str, list[float]] = {which: [] for which in works}
    for number in range(runs + 1):
        for which, work in works.items():
            begin = time.perf_counter()
            work()
            if number:
                times[which].append(time.perf_counter() - begin)
    ours, twin = (statistics.median(times[which]) for which in ("ours", "twin"))
    return {"ours_ms": round(1000 * ours, 1), "twin_ms": round(1000 * twin, 1), "ratio": round(ours / twin, 3)}


def measure_first_step(data: Path, runs: int) -> dict[str, float]:
    """Return the median wall seconds from the command to the end of its first step, and of `import torch`."""
    settings = ["data.input_size=128x128", "train.epochs=1"]
    times: dict[str, list[float]] = {"import": [], "first": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs + 1):
            train = ["train", str(SPECS / "litehrnet_s.seg"), "--data", str(data), "--weights", "none"]
            train += ["--out", f"{folder}/{number}", *(part for text in settings for part in ("--set", text))]
            for what, command in (("import", ["-c", "import torch"]), ("first", ["-c", FIRST, *train])):
                begin = time.perf_counter()
                subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
                if number:
                    times[what].append(time.perf_counter() - begin)
    found = {what: statistics.median(durations) for what, durations in times.items()}
    over = found["first"] - found["import"]
    return {
        "first_step_s": round(found["first"], 2),
        "import_torch_s": round(found["import"], 2),
        "over_import_s": round(over, 2),
        "limit_s": FIRST_LIMIT_S,
    }


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description="Training steps")
    parser.add_argument("-n", "--runs", type=int, default=7, help="number of steps of each")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--only", choices=SEVEN, help="measure one program in this process")
    parser.add_argument(
        "--first-step", type=Path, metavar="DATA", help="measure the first step instead, on this dataset"
    )
    parser.add_argument("--enforce", action="store_true", help="exit with 1 if a limit is exceeded")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure_step(options.only, options.batch, options.runs)))
        return
    if options.first_step:
        found = measure_first_step(options.first_step, options.runs)
        print(json.dumps({"bench": "training", **found}))
        sys.exit(options.enforce and found["over_import_s"] > FIRST_LIMIT_S)
    models = {}
    for name in SEVEN:
        command = [sys.executable, __file__, "--only", name, "-n", str(options.runs), "--batch", str(options.batch)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        models[name] = json.loads(done.stdout)
    ratio = statistics.median(result["ratio"] for result in models.values())
    print(json.dumps({"bench": "training", "batch": options.batch, "median_ratio": ratio, "models": models}))
    sys.exit(options.enforce and ratio > RATIO_LIMIT)


if __name__ == "__main__":
    main()
