"""What freezing saves: a training step of DINOv2-S, its backbone frozen, against the same unfrozen. One JSON line.

    python bench/freeze.py [--size HxW] [--batch N] [-n STEPS]

Each in a process of its own: the most memory it held over what it held before the first step, and the median time of a
step. Run it alone on the machine.
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


def rss_mb() -> float:
    """The most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(size: str, batch: int, steps: int, frozen: bool) -> dict[str, float]:
    """Peak memory of training steps over that of the built model, and the median seconds of a step."""
    import torch

    from segdsl.lang.program import load
    from segdsl.lower.compiled import compile_program
    from segdsl.lower.freeze import freeze
    from segdsl.run.engine.criterion import build_criterion
    from segdsl.run.engine.optimizers import build_optimizer

    program = load(SPEC, [f"data.input_size={size}", *([] if frozen else ["drop train.freeze"])], classes=2)
    model = compile_program(program, weights="none").model.to(memory_format=torch.channels_last).train()
    freeze(model, program.train.freeze)
    assert program.train.loss is not None and program.train.optimizer is not None
    criterion = build_criterion(program.train.loss, 2, 255)
    optimizer = build_optimizer(program.train.optimizer, model)
    extent = program.data.input_size
    images = torch.randn(batch, 3, extent.height, extent.width).to(memory_format=torch.channels_last)
    target = torch.randint(0, 2, (batch, extent.height, extent.width))
    before, times = rss_mb(), []
    for _ in range(steps):
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        criterion(model(images), target).backward()
        optimizer.step()
        times.append(time.perf_counter() - begin)
    return {"mb": rss_mb() - before, "s": statistics.median(times)}


def main() -> None:
    """Runs both and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="518x518")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("-n", "--steps", type=int, default=3)
    parser.add_argument("--only", choices=["frozen", "unfrozen"], help="measure one in this process")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.size, options.batch, options.steps, options.only == "frozen")))
        return
    command = [sys.executable, __file__, "--size", options.size]
    command += ["--batch", str(options.batch), "-n", str(options.steps)]
    found = {}
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
