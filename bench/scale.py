"""Cost of an index of very many files: opening it, a loader that uses it, and a second check.

The dataset consists of hard links to a few small images and masks. Each measurement runs in a separate process; memory
is the peak (Linux, `VmHWM`) in excess of the memory used before. The baseline lists both folders with `os.scandir` and
sorts the names. `--items 1000000` measures that number once. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZES = (25_000, 50_000, 100_000)
LINKS = 30_000
"""Links per file; ext4 allows 65,000."""
ROUNDS = 3
CHECK_ITEMS = 2_000
"""Number of items in the dataset for the check, all different."""
BATCHES, BATCH, SIZE = 30, 8, 256
MIB = 1 << 20
RATIO_LIMIT, WORKER_LIMIT_MIB = 1.5, 300


def write_pair(folder: Path, name: str, rng: np.random.Generator) -> None:
    """Write a small random image to `images` and its mask to `masks`."""
    for part, high, shape in (("images", 256, (32, 32, 3)), ("masks", 2, (32, 32))):
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, high, shape, np.uint8)).save(folder / part / f"{name}.png")


def write_meta(root: Path) -> None:
    """Write the classes of the subset `train`."""
    meta = {"label_map": {"0": "background", "1": "crack"}}
    (root / "train" / "dataset_meta.json").write_text(json.dumps(meta), encoding="utf-8")


def grow_tree(root: Path, items: int) -> None:
    """Add links to the subset `train` until it has ``items`` items."""
    rng, train, sources = np.random.default_rng(0), root / "train", root.parent / f"{root.name} sources"
    for part in ("images", "masks"):
        (train / part).mkdir(parents=True, exist_ok=True)
    existing = sum(1 for _ in os.scandir(train / "masks"))
    for number in range(existing, items):
        source = f"{number // LINKS}"
        if not (sources / "masks" / f"{source}.png").exists():
            write_pair(sources, source, rng)
        for part in ("images", "masks"):
            os.link(sources / part / f"{source}.png", train / part / f"{number:08}.png")
    write_meta(root)


def read_memory(what: str, pid: str = "self") -> int:
    """Return the memory of a process in bytes: resident (`VmRSS`), not from files (`RssAnon`) or peak (`VmHWM`)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{what}:"))


def measure_best_seconds(work: Callable[[], object], runs: int = 5) -> float:
    """Return the minimum CPU time over several runs, in seconds."""
    times: list[float] = []
    for _ in range(runs):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def list_folders(root: Path) -> list[list[str]]:
    """Return the sorted names in both folders, as the baseline."""
    return [sorted(entry.name for entry in os.scandir(root / "train" / part)) for part in ("images", "masks")]


def measure_open(root: Path) -> dict[str, float]:
    """Return the CPU seconds and bytes to open the index, and the seconds of the baseline."""
    from segdsl.data.check.index import open_index
    from segdsl.data.formats.layout import Request
    from segdsl.ir.data_format import DEFAULT_FORMAT

    # Resets the peak memory, which the imports have raised.
    Path("/proc/self/clear_refs").write_text("5")
    before = read_memory("VmRSS")
    index = open_index(root, DEFAULT_FORMAT, Request(["train"]))
    taken = read_memory("VmHWM") - before
    seconds = measure_best_seconds(lambda: open_index(root, DEFAULT_FORMAT, Request(["train"])))
    return {
        "items": len(index.get_subset("train")),
        "seconds": seconds,
        "bytes": taken,
        "scan_seconds": measure_best_seconds(lambda: list_folders(root)),
    }


def measure_worker(root: Path) -> dict[str, float]:
    """Return the memory of one worker in excess of a process that only imported torch.

    Reports the peak over some batches, and the memory at the end that is not mapped from files.
    """
    import torch

    whole, own = read_memory("VmRSS"), read_memory("RssAnon")
    from segdsl.data.check.index import open_index
    from segdsl.data.formats.layout import Request
    from segdsl.data.loading.dataset import TrainDataset
    from segdsl.data.loading.loader import TrainLoader
    from segdsl.ir.data_format import DEFAULT_FORMAT
    from segdsl.words.augmentations import HorizontalFlip, PhotometricDistortion, RandomResizedCrop

    steps = (RandomResizedCrop(), PhotometricDistortion(), HorizontalFlip())
    index = open_index(root, DEFAULT_FORMAT, Request(["train"]))
    batches = TrainLoader(TrainDataset(index, "train", (SIZE, SIZE), steps), BATCH, 1).iterate_epoch(0)
    for _ in range(BATCHES):
        assert next(batches).images.dtype == torch.uint8
    (worker,) = multiprocessing.active_children()
    return {
        "whole": read_memory("VmHWM", str(worker.pid)) - whole,
        "own": read_memory("RssAnon", str(worker.pid)) - own,
    }


def measure_check(root: Path) -> dict[str, float]:
    """Return the CPU seconds of the second check of :data:`CHECK_ITEMS` items, and of calling `stat` on each file."""
    from segdsl.data.check.checker import check_data

    rng = np.random.default_rng(0)
    for number in range(CHECK_ITEMS):
        write_pair(root / "train", f"{number:08}", rng)
    write_meta(root)
    check_data(root)
    files = [file for part in ("images", "masks") for file in sorted((root / "train" / part).iterdir())]
    return {
        "seconds": measure_best_seconds(lambda: check_data(root)),
        "stat_seconds": measure_best_seconds(lambda: [file.stat() for file in files]),
        "files": len(files),
    }


MEASURES = {"open": measure_open, "worker": measure_worker, "check": measure_check}


def measure_in_process(what: str, root: Path) -> dict[str, float]:
    """Run one measurement in a separate process."""
    environment = {**os.environ, "SEGDSL_CACHE": str(root.parent / "cache")}
    command = [sys.executable, __file__, "--measure", what, str(root)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def measure_opening(roots: list[Path]) -> list[dict[str, float]]:
    """Return the minimum of several measurements of each dataset."""
    # The datasets take turns, so that other load on the machine affects them alike.
    rounds = [[measure_in_process("open", root) for root in roots] for _ in range(ROUNDS if len(roots) > 1 else 1)]
    return [{key: min(row[key] for row in rows) for key in rows[0]} for rows in zip(*rounds, strict=True)]


def compute_slope(rows: list[dict[str, float]], key: str) -> float:
    """Return the increase of a result per item from the first to the last row; for a single row, its value per item."""
    if len(rows) == 1:
        return rows[0][key] / rows[0]["items"]
    return (rows[-1][key] - rows[0][key]) / (rows[-1]["items"] - rows[0]["items"])


def measure_scale(sizes: tuple[int, ...]) -> dict[str, Any]:
    """Run all measurements and return the results."""
    with tempfile.TemporaryDirectory() as folder:
        roots = [Path(folder) / f"{size}" for size in sizes]
        for root, size in zip(roots, sizes, strict=True):
            grow_tree(root, size)
        rows = measure_opening(roots)
        worker = measure_in_process("worker", roots[-1])
        check = measure_in_process("check", Path(folder) / "checked")
    ratio = compute_slope(rows[1:], "seconds") / compute_slope(rows[:2], "seconds") if len(rows) > 2 else None
    return {
        "benchmark": "scale",
        "items": list(sizes),
        "open_seconds": [round(row["seconds"], 3) for row in rows],
        "open_us_per_item": round(1e6 * compute_slope(rows, "seconds"), 2),
        "open_slope_ratio": ratio and round(ratio, 2),
        "open_bytes_per_item": round(compute_slope(rows, "bytes")),
        "scan_us_per_item": round(1e6 * compute_slope(rows, "scan_seconds"), 2),
        "open_over_scan": round(compute_slope(rows, "seconds") / compute_slope(rows, "scan_seconds"), 1),
        "worker_over_torch_mib": round(worker["whole"] / MIB),
        "worker_own_over_torch_mib": round(worker["own"] / MIB),
        "check_again_us_per_file": round(1e6 * check["seconds"] / check["files"], 1),
        "stat_us_per_file": round(1e6 * check["stat_seconds"] / check["files"], 1),
    }


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, help="measure this number of items once, instead of three numbers")
    parser.add_argument("--enforce", action="store_true", help="exit with 1 if a limit is exceeded")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "ROOT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(MEASURES[options.measure[0]](Path(options.measure[1]))))
        return
    result = measure_scale((options.items,) if options.items else SIZES)
    print(json.dumps(result))
    worker = max(result["worker_over_torch_mib"], result["worker_own_over_torch_mib"])
    if options.enforce and ((result["open_slope_ratio"] or 1) > RATIO_LIMIT or worker > WORKER_LIMIT_MIB):
        sys.exit(1)


if __name__ == "__main__":
    main()
