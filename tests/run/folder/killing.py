"""Trains in processes that are killed at a file operation in the run folder; the test of kills starts this by its path.

    python killing.py each|relay STRIDE

`each` kills a run of its own at every STRIDE-th operation, and what goes on with it at another one, and then lets it
end. `relay` kills one run again and again, each time some operations later than the last. Prints a JSON list of the
folders, each with how many operations the kills let through. The run without a kill lies in `run-0`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import traceback
from typing import Any

import torch

from segdsl.run import train
from segdsl.run.engine.setup import compile_start_model, prepare_run
from segdsl.run.program_data import resolve_classes

OVERRIDES = [
    "train.epochs=3",
    "train.ema=EMA()",
    "data.train.batch=2",
    "train.accumulate=3",
    "train.keep=Checkpoints(best=2, every=1 iters)",
]
OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.chmod"}
FOLDER = re.compile(r"(^|/)run-\d+(/|$)")


def trained(out: str, last: int = 0) -> int:
    """Begins or goes on with a run in a process that is killed before the operation of that number, from 1; 0 is never.
    Gives how many there were, or -1 where it was killed."""
    heard, written = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            count = _trained(out, last)
            os.write(written, str(count).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(written)
    with os.fdopen(heard) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return -1
    assert status == 0, f"{out} ended by itself"
    return int(said)


def _trained(out: str, last: int) -> int:
    count = 0

    def see(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in OPERATIONS:
            return
        paths = [os.fspath(given) for given in args if isinstance(given, (str, os.PathLike))]
        if not any(FOLDER.search(str(path)) for path in paths):
            return
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    train.write_final_report = lambda *_: None
    sys.addaudithook(see)
    train.train_file("tiny.seg", OVERRIDES, out=out, quiet=True, resume=True, device="cpu")
    return count


def each(stride: int) -> list[tuple[str, list[int]]]:
    """A run for every place of a kill, with another kill while it goes on."""
    made, whole = [], trained("run-0")
    for number in range(1, whole + 1, stride):
        out, again = f"run-{number}", number * 7 % whole + 1
        assert trained(out, number) == -1
        assert trained(out, again) != 0
        trained(out)
        made.append((out, [number, again]))
    return made


def relay(stride: int) -> list[tuple[str, list[int]]]:
    """One run that is killed again and again."""
    trained("run-0")
    numbers = [1]
    while trained("run-1", numbers[-1]) == -1:
        numbers.append(numbers[-1] + stride)
    return [("run-1", numbers)]


def load_all() -> None:
    """Imports here what each process would have to."""
    from torch.utils.tensorboard.writer import SummaryWriter  # noqa: F401

    prepare_run(compile_start_model(resolve_classes("tiny.seg", OVERRIDES)))


if __name__ == "__main__":
    load_all()
    print(json.dumps({"each": each, "relay": relay}[sys.argv[1]](int(sys.argv[2]))))
