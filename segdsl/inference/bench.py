"""Speed measurements of programs, runs and exported models on this machine, with random images."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from segdsl.inference.models.model import Model, RuntimeModel
from segdsl.inference.models.opener import open_model
from segdsl.inference.preprocess import Image
from segdsl.lang.program import load

if TYPE_CHECKING:
    from segdsl.inference.models.torch_model import TorchModel

SECONDS, MIN_REPEATS, MAX_REPEATS = 4.0, 5, 50
"""Each figure is the median of as many repetitions as fit into ``SECONDS``, within these two bounds."""


def measure_speed(path: str | Path, device: str = "auto") -> dict[str, Any]:
    """Measure a `.seg` file (random weights, two classes unless it names them), a run folder or an exported `.xml`.

    ``device`` applies to programs and runs; exported models run on the CPU.

    Returns `latency_ms` (from one image at input size to its probabilities, in single precision), `iter_ms` (one
    training step with the program's batch; None for an exported model, or without a loss or an optimizer), `fps`
    (1000 / latency), `params`, `flops` (2 per multiply-accumulate, one image) and `peak_rss_mb` of this process (None
    where the system does not report it). Raises SegError.
    """
    path = Path(path)
    model = _build_untrained_model(path, device) if path.suffix == ".seg" else open_model(path, device=device)
    size = model.input_size
    image = np.random.default_rng(0).integers(0, 256, (size.height, size.width, model.program.channels), np.uint8)
    latency = measure_median_ms(lambda: model.predict_probabilities(image))
    step = None if isinstance(model, RuntimeModel) else _make_training_step(cast("TorchModel", model), image)
    graph = model.program.graph
    return {
        "latency_ms": round(latency, 3),
        "iter_ms": None if step is None else round(measure_median_ms(step), 3),
        "fps": round(1000 / latency, 2),
        "params": graph.count_parameters(),
        "flops": 2 * graph.count_macs(),
        "peak_rss_mb": measure_peak_rss_mb(),
    }


def measure_median_ms(work: Callable[[], object]) -> float:
    """Return the median time of ``work`` in milliseconds, after two warm-up calls."""
    times: list[float] = []
    # The first calls pay for lazy initialization: memory pools, kernel selection, thread start.
    work()
    work()
    start = time.perf_counter()
    while len(times) < MIN_REPEATS or (len(times) < MAX_REPEATS and time.perf_counter() - start < SECONDS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times)


def measure_interleaved_medians(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median time of each of ``works`` in milliseconds, see :func:`measure_interleaved`."""
    return {name: statistics.median(times) for name, times in measure_interleaved(works, rounds).items()}


def measure_interleaved(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the times of each of ``works`` in milliseconds, over ``rounds`` rounds after two warm-up rounds."""
    times: dict[str, list[float]] = {name: [] for name in works}
    # Interleaved, so that a change of clock speed or load affects all of them alike.
    for _ in range(rounds + 2):
        for name, work in works.items():
            begin = time.perf_counter()
            work()
            times[name].append(1000 * (time.perf_counter() - begin))
    return {name: found[2:] for name, found in times.items()}


def measure_peak_rss_mb() -> float | None:
    """Return the peak resident memory of this process in MiB, or None on systems that do not report it."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS reports bytes, Linux KiB.
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _build_untrained_model(path: Path, device: str) -> Model:
    from segdsl.inference.models.torch_model import TorchModel
    from segdsl.lower.compiled import compile_program

    program = load(path)
    return TorchModel(path.parent, program, compile_program(program, weights="none").model, device)


def _make_training_step(model: TorchModel, image: Image) -> Callable[[], object] | None:
    """Return one training step on a batch of copies of ``image`` with random targets; None if it cannot train."""
    import torch

    from segdsl.lower.freeze import freeze_parts
    from segdsl.run.engine.criterion import build_criterion
    from segdsl.run.engine.optimizers import build_optimizer

    program = model.program
    if program.train.loss is None or program.train.optimizer is None:
        return None
    classes, ignore, batch = len(program.classes), program.void, program.data.train.batch
    network = model.model.train()
    freeze_parts(model.model, program.train.freeze)
    # Weights that depend on the dataset are set to 1: there is no dataset, and their values do not change the time.
    criterion = build_criterion(program.train.loss.replace_auto_weights([1.0] * classes), classes, ignore)
    optimizer = build_optimizer(program.train.optimizer, network)
    pixels = torch.from_numpy(image).permute(2, 0, 1).float().div(255).repeat(batch, 1, 1, 1)
    images = pixels.to(model.device, memory_format=torch.channels_last)
    target = torch.randint(0, classes, (batch, *image.shape[:2]), device=model.device)

    def run_step() -> None:
        loss = criterion(network(images), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        # Waits for the GPU, so that the measured time covers the whole step.
        loss.item()

    return run_step
