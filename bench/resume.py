"""Kills and resumes a run repeatedly, and compares the result with an uninterrupted run.

    python bench/resume.py [--kills 25] [--seed 0] [--set PATH=VALUE …]

SIGKILL ends each process at a random time: one in five during start-up, the others during training. Prints one line of
JSON: whether all tensors, metadata and log rows are equal, the number of kills, the steps at which the run was resumed,
and the times of both runs. The exit status is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors import safe_open

from segdsl.data.demo.generate import write_demo_dataset

PROGRAM = """seg 1

extends "std/semantic.seg"

model Small(classes: int) {
  in image: [B, 3, H, W]

  stem = image -> Conv(16, 3x3, stride = 2) -> BatchNorm() -> ReLU()
  body = stem -> Conv(16, 3x3) -> BatchNorm() -> ReLU() -> Dropout(0.2)
  out logits = body -> Conv(classes) as classifier -> ResizeTo(image)
}

model = Small(classes = len(data.classes))

data.input_size    = 64x64
data.train.batch   = 4
data.train.workers = 2
data.val.workers   = 1

train {
  schedule   = Warmup(20 iters) -> Poly()
  keep       = Checkpoints(best = 3, every = 7 iters)
  ema        = EMA()
  accumulate = 2
  clip       = 1.0
  epochs     = 60
}
"""
TIMES = ("seconds", "images_per_second", "waiting")


def build_command(out: Path, arguments: argparse.Namespace) -> list[str]:
    """Return the command that starts or resumes the run."""
    root = out.parent
    start = [sys.executable, "-m", "segdsl", "train", str(root / "small.seg"), "--data", str(root / "data")]
    return [
        *start,
        "--out",
        str(out),
        "--resume",
        "--device",
        "cpu",
        *(f"--set={text}" for text in arguments.overrides),
    ]


def train_until_killed(
    out: Path, arguments: argparse.Namespace, draw: random.Random, startup: float, training: float
) -> bool:
    """Train until a random time and kill the process; return whether the run was still going."""
    before, quiet = read_state_mtime(out), subprocess.DEVNULL
    process = subprocess.Popen(build_command(out, arguments), stdout=quiet, stderr=quiet)
    try:
        if draw.random() < 0.2:
            time.sleep(draw.uniform(0, startup))
        else:
            while process.poll() is None and read_state_mtime(out) == before:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, training / (arguments.kills + 1)))
        return process.poll() is None
    finally:
        process.kill()
        process.wait()


def read_state_mtime(out: Path) -> int:
    """Return the modification time of the saved state, or 0."""
    try:
        return (out / "checkpoints" / "state.safetensors").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def read_run_content(run: Path) -> dict[str, Any]:
    """Return everything a run saved, except for times."""
    found: dict[str, Any] = {}
    for path in sorted((run / "checkpoints").iterdir()):
        with safe_open(path, framework="pt") as file:
            facts = dict(file.metadata())
            found[path.name] = {key: file.get_tensor(key).numpy().tobytes() for key in file.keys()}  # noqa: SIM118
        course = json.loads(facts.pop("course", "{}"))
        rows = {k: {n: v for n, v in row.items() if n not in TIMES} for k, row in course.get("rows", {}).items()}
        # The digest covers the times, so it always differs.
        del facts["content_sha256"]
        found[f"facts of {path.name}"] = repr((sorted(facts.items()), course.get("kept"), rows))
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        found["log"] = [{n: v for n, v in row.items() if n not in TIMES} for row in csv.DictReader(file)]
    return found


def measure_resume(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run with and without kills, and return the differences."""
    (folder / "small.seg").write_text(PROGRAM, encoding="utf-8")
    write_demo_dataset(folder / "data", train=44, val=8)
    begin = time.perf_counter()
    subprocess.run(build_command(folder / "whole", arguments), check=True, capture_output=True)
    whole = time.perf_counter() - begin
    with (folder / "whole" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    # The first logged time is the end of the first epoch: extrapolate to all epochs; the rest is start-up.
    training = (seconds[-1] - seconds[0]) * len(seconds) / max(len(seconds) - 1, 1)
    draw, kills, begin = random.Random(arguments.seed), 0, time.perf_counter()
    while kills < arguments.kills and train_until_killed(folder / "left", arguments, draw, whole - training, training):
        kills += 1
    subprocess.run(build_command(folder / "left", arguments), check=True, capture_output=True)
    one, other = read_run_content(folder / "left"), read_run_content(folder / "whole")
    differ = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    resumed = folder / "left" / "resumed.json"
    steps = [entry["step"] for entry in json.loads(resumed.read_text(encoding="utf-8"))] if resumed.exists() else []
    return {
        "bench": "resume",
        "equal": not differ,
        "kills": kills,
        "differ": differ,
        "went_on_after_steps": steps,
        "epochs": len(seconds),
        "seconds": round(time.perf_counter() - begin, 1),
        "seconds_in_one_go": round(whole, 1),
    }


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="PATH=VALUE")
    with tempfile.TemporaryDirectory() as folder:
        found = measure_resume(Path(folder), parser.parse_args())
    print(json.dumps(found))
    sys.exit(not found["equal"])


if __name__ == "__main__":
    main()
