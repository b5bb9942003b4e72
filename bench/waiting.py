"""Share of a training step spent waiting for data, for each of the seven programs.

Trains each program for some steps with its own size and number of workers, then for as many steps on one batch in
memory, in a separate process. Prints one line of JSON: for each program the share of waiting, and the time per step
relative to steps without loading.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from segdsl.data.loading.loader import Batch

PROGRAMS = ("litehrnet_s", "litehrnet_18", "litehrnet_x", "segnext_t", "segnext_s", "segnext_b", "dinov2")
SPECS = Path(__file__).parent.parent / "specs"


def measure_waiting(name: str, root: Path, steps: int, overrides: list[str]) -> dict[str, float]:
    """Return the median seconds of a step with the loader, its share of waiting, and its ratio to one without."""
    from segdsl.run.engine.setup import Setup, compile_start_model, prepare_run
    from segdsl.run.program_data import resolve_classes

    program = resolve_classes(SPECS / f"{name}.seg", overrides, root)
    setup = prepare_run(compile_start_model(program, "none"), root)
    setup.network.train()

    def step(setup: Setup, batch: Batch) -> None:
        loss = setup.criterion(setup.network(batch.images), batch.target.long())
        setup.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        setup.optimizer.step()

    batch, loaded, waits, alone = None, [], [], []
    batches = setup.train_loader.iterate_epoch(0)
    for number in range(steps + 1):
        begin, waited = time.perf_counter(), setup.train_loader.wait_seconds
        batch = next(batches)
        step(setup, batch)
        # The first step includes the start of the workers.
        if number:
            loaded.append(time.perf_counter() - begin)
            waits.append(setup.train_loader.wait_seconds - waited)
    setup.train_loader.close()
    assert batch is not None
    for _ in range(steps):
        begin = time.perf_counter()
        step(setup, batch)
        alone.append(time.perf_counter() - begin)
    return {
        "step_s": round(statistics.median(loaded), 3),
        "waiting": round(sum(waits) / sum(loaded), 4),
        "over_ready": round(statistics.median(loaded) / statistics.median(alone), 3),
    }


def main() -> None:
    """Measure each program in a separate process and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="dataset in Common Semantic Segmentation format")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="PATH=VALUE")
    parser.add_argument("--only", choices=PROGRAMS, help="measure one program in this process")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure_waiting(arguments.only, arguments.root, arguments.steps, arguments.overrides)))
        return
    found = {}
    for name in PROGRAMS:
        command = [sys.executable, *sys.argv, "--only", name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(done.stdout)
    worst = max(result["waiting"] for result in found.values())
    print(json.dumps({"bench": "waiting", "worst": worst, **found}))


if __name__ == "__main__":
    main()
