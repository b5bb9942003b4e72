"""Whatever a run is made of, it ends as one that never stopped, and with another number of loading processes, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from segdsl.run.console.display import Display
from segdsl.run.train import RunResult, train_file

Same = Callable[[Path, Path], None]
COMMON = ["train.epochs=4", "train.schedule=Warmup(2 iters) -> Cosine()", "data.train.batch=2"]
OPTIONS = {
    "mixing": [
        "data.train.sampler=ClassBalanced()",
        "data.train.augment.mosaic=Mosaic(p = 0.8)",
        "data.train.augment.cut=CutMix(p = 0.8)",
        "data.train.augment.classes=ClassMix(p = 0.8)",
        "train.keep=Checkpoints(best = 3, every = 1 iters)",
    ],
    "half": [
        "train.precision=bf16",
        "data.train.sampler=RepeatFactor(threshold = 1.0)",
        "train.accumulate=3",
        "train.ema=EMA(decay = 0.9)",
        "train.keep=Checkpoints(best = 2, every = 2 iters)",
    ],
    "frozen": [
        "train.freeze=[stem, bn]",
        "train.optimizer=SGD(lr = 0.1, groups = [Group([classifier], lr = 0.01)])",
        "train.monitor=val.loss",
        "train.stop=EarlyStopping(min_delta = 0.0, patience = 1 epochs)",
        "train.schedule=ReduceOnPlateau(factor = 0.5, patience = 0 epochs, threshold = 0.5)",
        "train.keep=Checkpoints(best = 1, every = 3 iters)",
    ],
    "rare": [
        "data.cache=0 GiB",
        "train.clip=0.1",
        "train.loss=WeightedSum([CrossEntropy(class_weights = auto), Dice()])",
        "train.keep=Checkpoints(last = false, every = 1.75 epochs)",
    ],
}
KILLS = {"rare": 9}
"""Steps that are made before the first kill, where these are not 5."""


class Killed(BaseException):
    """What no code catches, as nothing catches SIGKILL."""


def trained(out: str, name: str, workers: int = 0) -> int | None:
    loading = [f"data.train.workers={workers}", f"data.val.workers={min(workers, 1)}"]
    return train_file("tiny.seg", [*COMMON, *OPTIONS[name], *loading], out=out, quiet=True, resume=True).resume_step


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0)])
def test_a_resumed_run_equals_an_uninterrupted_one(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    same_run: Same,
    whole_run: Callable[..., RunResult],
    name: str,
    before: int,
    after: int,
) -> None:
    monkeypatch.setattr("segdsl.run.train.write_final_report", lambda *_: None)
    for workers, steps in ((before, KILLS.get(name, 5)), (after, 2)):
        left = iter(range(steps))

        def step(self: Display, *_: object, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise Killed

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Display, "show_step", step)
            trained("left", name, workers)
    assert trained("left", name, after)
    same_run(project / "left", whole_run([*COMMON, *OPTIONS[name], "data.train.workers=0"]).run)
