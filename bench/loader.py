"""Images a second through the training loader: decoding, cropping, distortion, flip. One JSON line.

Give it a data set in Common Semantic Segmentation; without one it writes the demo data set to a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from segdsl.data.augment import augment
from segdsl.data.dataset import TrainDataset
from segdsl.data.demo import write_demo
from segdsl.data.index import Index, open_index
from segdsl.data.layout import Request
from segdsl.data.loader import TrainLoader
from segdsl.data.pending import read_sample
from segdsl.data.sample import Setting, counter_rng
from segdsl.words.augmentations import HorizontalFlip, PhotometricDistortion, RandomResizedCrop

STEPS = (RandomResizedCrop(), PhotometricDistortion(), HorizontalFlip())


def rate(images: int, work: Callable[[], object]) -> float:
    """Images a second of ``work``, which handles ``images``."""
    started = time.perf_counter()
    work()
    return round(images / (time.perf_counter() - started), 1)


def measure(index: Index, subset: str, size: int, workers: list[int]) -> dict[str, float]:
    """Rates of decoding alone, of augmenting alone, and of the loader with each number of workers."""
    files = index.subset(subset)
    count = len(files)
    samples = [read_sample(index, files, i) for i in range(min(count, 32))]
    setting = Setting((size, size), index.ignore)
    found = {
        "decode": rate(count, lambda: [read_sample(index, files, i) for i in range(count)]),
        "augment": rate(
            count, lambda: [augment(STEPS, samples[i % 32], counter_rng(0, 0, i), setting) for i in range(count)]
        ),
    }
    for number in workers:
        loader = TrainLoader(TrainDataset(index, subset, (size, size), STEPS), 8, number)
        list(loader.epoch(0))  # the workers start here, which is not counted
        steps = len(loader)
        found[f"loader_{number}"] = rate(8 * steps, lambda loader=loader: list(loader.epoch(1)))
    return found


def main() -> None:
    """Parses the arguments and prints the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", nargs="?", type=Path)
    parser.add_argument("--subset", default="train")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.root or write_demo(Path(folder) / "demo").out
        index = open_index(root, "common_semantic_segmentation", Request([arguments.subset]))
        rates = measure(index, arguments.subset, arguments.size, arguments.workers)
    print(json.dumps({"bench": "loader", "size": arguments.size, "images_per_second": rates}))


if __name__ == "__main__":
    main()
