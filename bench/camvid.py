"""Trains Lite-HRNet-s on CamVid from scratch, once for each seed, and prints one JSON line.

    python bench/camvid.py [--data ROOT] [--recipe ours|published] [SEED …]

Scores are those of the best epoch on the validation subset at 256x256; seconds are wall time of the whole process, from
its start to its end. Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = HERE.parent.parent / "shared" / "data" / "camvid"
RECIPES = {
    "ours": [],
    "published": [
        "train.optimizer=Adam(lr=1e-3)",
        "train.schedule=Warmup(100 iters) -> ReduceOnPlateau(factor=0.1, patience=4 epochs)",
        "train.loss=CrossEntropy(average=all)",
    ],
}
"""What each recipe changes in `bench/camvid.seg`."""
REFERENCE = {"dice": 0.291, "seconds": 434}
"""OTX 2.6.0 with the same network, size, batch and epochs, on 2 cores."""


def train(seed: int, data: Path, overrides: list[str], out: Path) -> dict[str, float]:
    """One run in a process of its own: scores of its best epoch, epochs and wall seconds."""
    command = [sys.executable, "-m", "segdsl", "train", str(HERE / "camvid.seg"), "--json", "--data", str(data)]
    command += ["--out", str(out), "--set", f"train.seed={seed}"]
    command += [part for text in overrides for part in ("--set", text)]
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.perf_counter() - started
    answer = json.loads(done.stdout)
    return {**answer["best"], "epochs": answer["epochs"], "seconds": seconds}


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description="CamVid, 15 epochs from scratch")
    parser.add_argument("seeds", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="ours")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        overrides = [*RECIPES[args.recipe], *args.set]
        runs = [train(seed, args.data, overrides, Path(folder) / str(seed)) for seed in args.seeds]
    answer = {
        "bench": "camvid",
        "recipe": args.recipe,
        "seeds": args.seeds,
        "epochs": [run["epochs"] for run in runs],
        "dice": [round(run["dice"], 4) for run in runs],
        "miou": [round(run["miou"], 4) for run in runs],
        "seconds": [round(run["seconds"], 1) for run in runs],
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        "reference": REFERENCE,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
