"""Savings of freezing: training steps of DINOv2-S with a frozen backbone, compared with an unfrozen one.

    python bench/freeze.py [--size HxW] [--batch N] [-n STEPS]

Reports the peak memory in excess of that before the first step, and the median time of a step, each measured in a
separate process. Prints one line of JSON. Run it without other load on the machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

SPEC = Path(__file__).resolve().parents[1] / "specs" / "dinov2.seg"


def read_peak_rss_mb() -> float:
    """Return the peak memory of this process in MiB."""
    # Linux reports kibibytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_training_steps(size: str, batch: int, steps: int, frozen: bool) -> dict[str, float]:
    """Return the peak memory of training steps in excess of the built model, and the median seconds of a step."""
    import torch

    from segdsl.lang.program import load
    from segdsl.lower.compiled import compile_program
    from segdsl.lower.freeze import freeze_parts
    from segdsl.run.engine.criterion import build_criterion
    from segdsl.run.engine.optimizers import build_optimizer

    program = load(SPEC, [f"data.input_size={size}", *([] if frozen else ["drop train.freeze"])], classes=2)
    model = compile_program(program, weights="none").model.to(memory_format=torch.channels_last).train()
    freeze_parts(model, program.train.freeze)
    assert program.train.loss is not None and program.train.optimizer is not None
    criterion = build_criterion(program.train.loss, 2, 255)
    optimizer = build_optimizer(program.train.optimizer, model)
    extent = program.data.input_size
    images = torch.randn(batch, 3, extent.height, extent.width).to(memory_format=torch.channels_last)
    target = torch.randint(0, 2, (batch, extent.height, extent.width))
    before, times = read_peak_rss_mb(), []
    for _ in range(steps):
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        criterion(model(images), target).backward()
        optimizer.step()
        times.append(time.perf_counter() - begin)
    return {"mb": read_peak_rss_mb() - before, "s": statistics.median(times)}


def main() -> None:
    """Run both variants and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="518x518")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("-n", "--steps", type=int, default=3)
    parser.add_argument("--only", choices=["frozen", "unfrozen"], help="measure one variant in this process")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure_training_steps(options.size, options.batch, options.steps, options.only == "frozen")))
        return
    command = [sys.executable, __file__, "--size", options.size]
    command += ["--batch", str(options.batch), "-n", str(options.steps)]
    found = {}
    # Peak memory never decreases within a process, so each variant needs its own.
    for kind in ("frozen", "unfrozen"):
        done = subprocess.run([*command, "--only", kind], stdout=subprocess.PIPE, text=True, check=True)
        found[kind] = json.loads(done.stdout)
    frozen, unfrozen = found["frozen"], found["unfrozen"]
    result = {
        "benchmark": "freeze",
        "size": options.size,
        "batch": options.batch,
        "frozen_mb": round(frozen["mb"]),
        "unfrozen_mb": round(unfrozen["mb"]),
        "ratio_memory": round(frozen["mb"] / unfrozen["mb"], 3),
        "frozen_step_s": round(frozen["s"], 3),
        "unfrozen_step_s": round(unfrozen["s"], 3),
        "ratio_time": round(frozen["s"] / unfrozen["s"], 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
