"""What it costs to load a file of weights, and to fetch one. One JSON line.

    python bench/weights.py [-n RUNS]

For every published model an OTX checkpoint is written and loaded into the built model, in turn with a plain reader:
`torch.load` of the same file, its keys cut by hand, `load_state_dict`. `load_ratio` is the worst of the medians'
ratios. `per_tensor_growth` is the cost per tensor of the model with most tensors over that of the one with fewest, when
nothing fits and all is searched. Then a file of 256 MiB is fetched from a server on this machine, in turn with
`urllib.request` copying it to disk: `fetch_ratio`. Run it alone on the machine.
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
from segdsl.weights.fetch import fetch
from segdsl.weights.load import load_weights
from segdsl.weights.match_layout import best_reading
from segdsl.words.published import parse_source

SPECS = Path(__file__).resolve().parents[1] / "specs"
NAMES = ("litehrnet_s", "litehrnet_18", "litehrnet_x", "segnext_t", "segnext_s", "segnext_b", "dinov2")
SIZE = 256 << 20


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def medians(runs: int, *calls: Callable[[], object]) -> list[float]:
    """Median seconds of each call, made in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(runs):
        for call, taken in zip(calls, times, strict=True):
            begin = time.perf_counter()
            call()
            taken.append(time.perf_counter() - begin)
    return [statistics.median(taken) for taken in times]


def plain_load(model: torch.nn.Module, path: Path) -> None:
    """What a person writes who knows the file."""
    content = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    model.load_state_dict({key.removeprefix("model."): value for key, value in content.items()})


def loading(folder: Path, runs: int) -> dict[str, Any]:
    """The ratios of loading, by model, and the growth of a search in vain."""
    ratios, searches = {}, {}
    for name in NAMES:
        program = load(SPECS / f"{name}.seg", [], 2)
        model = compile_program(program, "none").model
        path = folder / f"{name}.ckpt"
        tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
        torch.save({"state_dict": tensors, "otx_version": "2.6.0"}, path)
        ours, plain = medians(
            runs, partial(load_weights, model, path, graph=program.graph), partial(plain_load, model, path)
        )
        ratios[name] = round(ours / plain, 2)
        state = model.state_dict()
        foreign = {f"x.{key}y": value for key, value in state.items()}
        (search,) = medians(runs, partial(best_reading, foreign, state, ""))
        searches[len(state)] = search / len(state)
    return {"load_ratio": max(ratios.values()), "load_ratios": ratios,
            "per_tensor_growth": round(searches[max(searches)] / searches[min(searches)], 2)}  # fmt: skip


def fetching(folder: Path, runs: int) -> dict[str, Any]:
    """The ratio of fetching to copying, from a server of this machine."""
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
        fetch(parse_source(url))

    def plain() -> None:
        with urllib.request.urlopen(url) as answer, open(folder / "copy", "wb") as file:
            shutil.copyfileobj(answer, file, 1 << 18)
            file.flush()
            os.fsync(file.fileno())

    fetched, copied = medians(runs, ours, plain)
    (again,) = medians(runs, lambda: fetch(parse_source(url)))
    server.shutdown()
    return {"fetch_ratio": round(fetched / copied, 2), "fetch_mib_per_s": round(SIZE / fetched / 2**20),
            "cached_s_per_gib": round(again * 2**30 / SIZE, 2)}  # fmt: skip


def main() -> None:
    """Runs both and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=5, dest="runs")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        result = {"bench": "weights", **loading(Path(folder), runs), **fetching(Path(folder), runs)}
    json.dump(result, sys.stdout)
    print()


if __name__ == "__main__":
    main()
