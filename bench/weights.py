"""Time to load a weight file, and to download one.

    python bench/weights.py [-n RUNS]

For every published model, writes an OTX checkpoint and loads it, alternating with a minimal reader: `torch.load` of the
same file, prefixes removed by hand, `load_state_dict`. `load_ratio` is the worst ratio of the medians.
`per_tensor_growth` is the time per tensor to match a file that does not fit, for the model with the most tensors
relative to the one with the fewest. `fetch_ratio` is the time to download 256 MiB from a server on this machine,
relative to `urllib.request` copying it to disk. Prints one line of JSON. Run it without other load on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program
from segdsl.weights.fetch import fetch_weights_file
from segdsl.weights.load import load_weights
from segdsl.weights.match_layout import find_best_match
from segdsl.words.published import parse_source

SPECS = Path(__file__).resolve().parents[1] / "specs"
NAMES = ("litehrnet_s", "litehrnet_18", "litehrnet_x", "segnext_t", "segnext_s", "segnext_b", "dinov2")
SIZE = 256 << 20


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without logging."""

    def log_message(self, format: str, *args: object) -> None:
        """Discard the message."""


def measure_medians(runs: int, *calls: Callable[[], object]) -> list[float]:
    """Return the median seconds of each call; the calls take turns."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(runs):
        for call, durations in zip(calls, times, strict=True):
            begin = time.perf_counter()
            call()
            durations.append(time.perf_counter() - begin)
    return [statistics.median(durations) for durations in times]


def load_plainly(model: torch.nn.Module, path: Path) -> None:
    """Load a checkpoint as one would by hand, knowing its format."""
    content = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    model.load_state_dict({key.removeprefix("model."): value for key, value in content.items()})


def measure_loading(folder: Path, runs: int) -> dict[str, Any]:
    """Return the ratios of loading by model, and the growth of the time to match a file that does not fit."""
    ratios, searches = {}, {}
    for name in NAMES:
        program = load(SPECS / f"{name}.seg", [], 2)
        model = compile_program(program, "none").model
        path = folder / f"{name}.ckpt"
        tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
        torch.save({"state_dict": tensors, "otx_version": "2.6.0"}, path)
        ours, plain = measure_medians(
            runs, partial(load_weights, model, path, graph=program.graph), partial(load_plainly, model, path)
        )
        ratios[name] = round(ours / plain, 2)
        state = model.state_dict()
        foreign = {f"x.{key}y": value for key, value in state.items()}
        (search,) = measure_medians(runs, partial(find_best_match, foreign, state, ""))
        searches[len(state)] = search / len(state)
    return {"load_ratio": max(ratios.values()), "load_ratios": ratios,
            "per_tensor_growth": round(searches[max(searches)] / searches[min(searches)], 2)}  # fmt: skip


def measure_fetching(folder: Path, runs: int) -> dict[str, Any]:
    """Return the ratio of downloading to copying, from a server on this machine."""
    with open(folder / "w.safetensors", "wb") as file:
        header = b'{"x":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (SIZE, SIZE)
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + SIZE)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/w.safetensors"
    cache = folder / "cache"
    os.environ["SEGDSL_CACHE"] = str(cache)

    def ours() -> None:
        shutil.rmtree(cache, ignore_errors=True)
        fetch_weights_file(parse_source(url))

    def plain() -> None:
        with urllib.request.urlopen(url) as answer, open(folder / "copy", "wb") as file:
            shutil.copyfileobj(answer, file, 1 << 18)
            file.flush()
            # `fetch` syncs too; without it, the copy would only measure the page cache.
            os.fsync(file.fileno())

    fetched, copied = measure_medians(runs, ours, plain)
    (again,) = measure_medians(runs, lambda: fetch_weights_file(parse_source(url)))
    server.shutdown()
    return {"fetch_ratio": round(fetched / copied, 2), "fetch_mib_per_s": round(SIZE / fetched / 2**20),
            "cached_s_per_gib": round(again * 2**30 / SIZE, 2)}  # fmt: skip


def main() -> None:
    """Run both benchmarks and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=5, dest="runs")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        result = {"bench": "weights", **measure_loading(Path(folder), runs), **measure_fetching(Path(folder), runs)}
    json.dump(result, sys.stdout)
    print()


if __name__ == "__main__":
    main()
