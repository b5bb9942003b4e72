"""Images per second on one core for decoding, a crop to 512x512, photometric distortion and a flip.

Uses JPEG images of 480x360 and 2048x1024 with masks, resized from a dataset (default: the demo data). If torchvision is
installed, its v2 transforms for the same steps run alternately. `kept` is our pipeline with all masks in the decoded
cache, as from the second epoch on; `all_kept` has the images in it too. Prints one line of JSON that includes the speed
of each part.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
from PIL import Image

from segdsl.data.augment.lazy import LazySample, PairReader, read_sample
from segdsl.data.augment.pipeline import apply_augmentations
from segdsl.data.augment.sample import AugmentContext, counter_rng
from segdsl.data.check.index import Index, open_index
from segdsl.data.decode.decoded_cache import NO_CACHE, PixelCache
from segdsl.data.decode.images import read_image
from segdsl.data.demo.generate import write_demo_dataset
from segdsl.data.formats.layout import Request
from segdsl.data.loading.dataset import SampleKey, TrainDataset
from segdsl.data.loading.worker import prepare_worker
from segdsl.words.augmentations import HorizontalFlip, PhotometricDistortion, RandomResizedCrop

COMMON, SIZE, ROUNDS = "common_semantic_segmentation", 512, 5
STEPS = (RandomResizedCrop(), PhotometricDistortion(), HorizontalFlip())
SHAPES = {"480": (360, 480), "2048": (1024, 2048)}


def write_dataset(root: Path, source: Path, shape: tuple[int, int], count: int) -> Index:
    """Write a dataset of ``count`` JPEG images and index masks of one (height, width), resized from another."""
    index = open_index(source, COMMON, Request(["train"]))
    subset = index.get_subset("train")
    for kind in ("images", "masks"):
        (root / "train" / kind).mkdir(parents=True)
    for number in range(count):
        sample = read_sample(index, subset, number % len(subset))
        image = cv2.resize(sample.image, shape[::-1], interpolation=cv2.INTER_CUBIC)
        mask = cv2.resize(sample.mask, shape[::-1], interpolation=cv2.INTER_NEAREST)
        Image.fromarray(image).save(root / "train" / "images" / f"{number}.jpg", quality=90)
        Image.fromarray(mask).save(root / "train" / "masks" / f"{number}.png")
    (root / "train" / "dataset_meta.json").write_text(json.dumps({"labels": list(index.classes)}))
    return open_index(root, COMMON, Request(["train"]))


def make_loader(index: Index, memory: PixelCache = NO_CACHE) -> Callable[[int], object]:
    """Return a function that runs our whole pipeline for one sample."""
    dataset = TrainDataset(index, "train", (SIZE, SIZE), STEPS, cache=memory)
    return lambda k: dataset[SampleKey(0, k % len(dataset), k // len(dataset))]


def make_cached_loader(index: Index, images: bool) -> Callable[[int], object]:
    """Return our pipeline with all masks, and optionally all images, in the decoded cache."""
    subset = index.get_subset("train")
    memory = PixelCache(len(subset), 1 << 30)
    pairs = PairReader(index, subset, memory)
    for position in range(len(subset)):
        found = pairs.open_pair(position)
        pairs.read_mask(position, found.size)
        if images and isinstance(found, LazySample):
            found.decode_fully()
    if not images:
        # A full budget keeps the pipeline from caching images during the measurement.
        memory.budget = memory.byte_count
    return make_loader(index, memory)


def make_torchvision_loader(index: Index) -> Callable[[int], object] | None:
    """Return the same steps as v2 transforms of torchvision on uint8, or None if it is not installed."""
    try:
        import torch
        from torchvision import io as tvio  # pyright: ignore[reportMissingImports]
        from torchvision import tv_tensors  # pyright: ignore[reportMissingImports]
        from torchvision.transforms import v2  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    torch.set_num_threads(1)
    subset = index.get_subset("train")
    steps = v2.Compose(
        [
            v2.RandomResizedCrop((SIZE, SIZE), scale=(0.2, 1.0), ratio=(0.75, 1.34), antialias=True),
            v2.RandomPhotometricDistort(p=0.5),
            v2.RandomHorizontalFlip(0.5),
        ]
    )

    def read(k: int) -> object:
        k %= len(subset)
        image = tvio.decode_image(tvio.read_file(str(subset.get_image_path(k))), tvio.ImageReadMode.RGB)
        mask = tvio.decode_image(tvio.read_file(str(subset.get_mask_path(k))), tvio.ImageReadMode.UNCHANGED)
        return steps(tv_tensors.Image(image), tv_tensors.Mask(mask))

    return read


def make_part_works(index: Index) -> dict[str, Callable[[int], Any]]:
    """Return the parts of the pipeline: decoding of the image, decoding of image and mask, and augmentation."""
    subset = index.get_subset("train")
    samples = [read_sample(index, subset, k) for k in range(min(8, len(subset)))]
    setting = AugmentContext((SIZE, SIZE), index.ignore)
    return {
        "image": lambda k: read_image(subset.get_image_path(k % len(subset))),
        "pair": lambda k: read_sample(index, subset, k % len(subset)),
        "steps": lambda k: apply_augmentations(STEPS, samples[k % len(samples)], counter_rng(0, 0, k), setting),
    }


def measure_rates(works: dict[str, Callable[[int], object]], count: int) -> dict[str, float]:
    """Return the images per second of each function, as the median over rounds in CPU time of this thread."""
    # In each round all functions run in turn, so that changes of the machine's speed affect them alike.
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            begin = time.thread_time()
            for k in range(count):
                work(k)
            times[name].append((time.thread_time() - begin) / count)
    return {name: round(1 / statistics.median(found), 1) for name, found in times.items()}


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", nargs="?", type=Path, help="dataset in Common Semantic Segmentation format")
    parser.add_argument("--count", type=int, default=40, help="number of images of each size")
    arguments = parser.parse_args()
    prepare_worker()
    found: dict[str, Any] = {"bench": "loader", "size": SIZE}
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.root or write_demo_dataset(Path(folder) / "demo").out
        for name, shape in SHAPES.items():
            count = arguments.count if name == "480" else max(arguments.count // 2, 1)
            index = write_dataset(Path(folder) / name, source, shape, count)
            works: dict[str, Callable[[int], object]] = {
                "ours": make_loader(index),
                "kept": make_cached_loader(index, images=False),
            }
            works["all_kept"] = make_cached_loader(index, images=True)
            other = make_torchvision_loader(index)
            if other is not None:
                works["torchvision"] = other
            measured = measure_rates({**works, **make_part_works(index)}, count)
            found[f"images_per_s_{name}"] = measured.pop("ours")
            if other is not None:
                ratio = found[f"images_per_s_{name}"] / measured["torchvision"]
                found["ratio_torchvision" if name == "480" else f"ratio_torchvision_{name}"] = round(ratio, 2)
            found[f"parts_{name}"] = measured
    print(json.dumps(found))


if __name__ == "__main__":
    main()
