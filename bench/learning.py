"""Training of Lite-HRNet-s from scratch on three datasets, once per seed.

    python bench/learning.py [--data FOLDER] [--only NAME] [--recipe ours|published] [SEED …]
    python bench/learning.py --seven

Trains `bench/nuclei.seg`, `crackforest.seg` and `camvid.seg` at 256x256. Scores are those of the best epoch on the
validation subset at that size; seconds are the wall time of the whole process. With `--seven`, trains each of the
published programs for 200 steps at a reduced size instead and reports how far its loss decreases. Prints one line of
JSON. Run it without other load on the machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DATA = HERE.parent.parent / "shared" / "data"
RECIPES = {
    "ours": [],
    "published": [
        "train.optimizer=Adam(lr=1e-3)",
        "train.schedule=Warmup(100 iters) -> ReduceOnPlateau(factor=0.1, patience=4 epochs)",
        "train.loss=CrossEntropy(average=all)",
    ],
}
"""Settings that each recipe overrides in the programs."""
REFERENCE = {
    "nuclei": {"dice": [0.817, 0.825], "seconds": [244, 245]},
    "crackforest": {"dice": [0.353, 0.352], "seconds": [240, 252]},
    "camvid": {"dice": [0.291], "seconds": [434]},
}
"""Results of OTX 2.6.0 with the same network, size and batch, on 2 cores."""
SEVEN = ("litehrnet_s", "litehrnet_18", "litehrnet_x", "segnext_t", "segnext_s", "segnext_b", "dinov2")
STEPS, AVERAGE_STEPS = 200, 20
"""Steps of each of the seven, and the number of first and last steps over which the loss is averaged."""


def run_training(program: Path, data: Path, overrides: list[str], out: Path) -> dict[str, Any]:
    """Train in a separate process; return the JSON of `segdsl train --json` and the wall seconds."""
    command = [sys.executable, "-m", "segdsl", "train", str(program), "--json", "--data", str(data)]
    command += ["--out", str(out), *(part for text in overrides for part in ("--set", text))]
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {**json.loads(done.stdout), "seconds": time.perf_counter() - started}


def train_and_score(name: str, data: Path, seeds: list[int], overrides: list[str], folder: Path) -> dict[str, Any]:
    """Return the best scores on one dataset, as lists with one entry per seed."""
    program, found = HERE / f"{name}.seg", []
    for seed in seeds:
        out = folder / f"{name}-{seed}"
        run = run_training(program, data / name, [f"train.seed={seed}", *overrides], out)
        with (out / "metrics.csv").open(encoding="utf-8", newline="") as file:
            best = list(csv.DictReader(file))[int(run["best"]["epoch"]) - 1]
        classes = {key.removeprefix("val.dice."): float(v) for key, v in best.items() if key.startswith("val.dice.")}
        found.append({**run["best"], "last": classes.popitem()[1], "epochs": run["epochs"], "seconds": run["seconds"]})
    return {
        "epochs": [run["epochs"] for run in found],
        "dice": [round(run["dice"], 4) for run in found],
        "dice_of_last_class": [round(run["last"], 4) for run in found],
        "miou": [round(run["miou"], 4) for run in found],
        "seconds": [round(run["seconds"], 1) for run in found],
        "reference": REFERENCE[name],
    }


def measure_loss_fall(name: str, data: Path) -> dict[str, float]:
    """Train one of the seven from scratch; return the mean loss of the first and last steps, and the time per step."""
    from segdsl.run.engine.setup import compile_start_model, prepare_run
    from segdsl.run.program_data import resolve_classes

    settings = ["data.input_size=70x98" if name == "dinov2" else "data.input_size=64x96", "data.train.batch=6"]
    settings += ["data.train.workers=1", "data.val.workers=0", *(["drop train.freeze"] if name == "dinov2" else [])]
    program = resolve_classes(HERE.parent / "specs" / f"{name}.seg", settings, data / "camvid_small")
    setup = prepare_run(compile_start_model(program, "none"), data / "camvid_small")
    setup.network.train()
    losses, epoch, started = [], 0, time.perf_counter()
    while len(losses) < STEPS:
        for batch in setup.train_loader.iterate_epoch(epoch):
            loss = setup.criterion(setup.network(batch.images), batch.target.long())
            setup.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            setup.optimizer.step()
            losses.append(loss.item())
        epoch += 1
    first, last = (
        sum(losses[:AVERAGE_STEPS]) / AVERAGE_STEPS,
        sum(losses[STEPS - AVERAGE_STEPS : STEPS]) / AVERAGE_STEPS,
    )
    seconds = (time.perf_counter() - started) / len(losses)
    return {
        "first": round(first, 3),
        "last": round(last, 3),
        "fall": round(1 - last / first, 3),
        "step_s": round(seconds, 3),
    }


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description="Training from scratch")
    parser.add_argument("seeds", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the three datasets")
    parser.add_argument(
        "--only", choices=sorted(REFERENCE), action="append", help="train only on this dataset (repeatable)"
    )
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="ours")
    parser.add_argument("--seven", action="store_true", help="train each published program for 200 steps instead")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    args = parser.parse_args()
    if args.seven:
        print(
            json.dumps(
                {"bench": "learning", "steps": STEPS, **{name: measure_loss_fall(name, args.data) for name in SEVEN}}
            )
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        overrides = [*RECIPES[args.recipe], *args.set]
        names = args.only or list(REFERENCE)
        runs = {name: train_and_score(name, args.data, args.seeds, overrides, Path(folder)) for name in names}
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(json.dumps({"bench": "learning", "recipe": args.recipe, "seeds": args.seeds, **runs, "peak_rss_mb": peak}))


if __name__ == "__main__":
    main()
