"""A run that is stopped after any step and put together again from its file goes on bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from segdsl.run.console.display import Display
from segdsl.run.engine.clock import Clock
from segdsl.run.engine.loop import train_epoch
from segdsl.run.engine.setup import Setup, compile_start_model, prepare_run
from segdsl.run.engine.state import TrainState, derive_noise_seed
from segdsl.run.folder.layout import RunFolder
from segdsl.run.program_data import resolve_classes
from segdsl.run.session import build_checkpoint_writer, build_start_state

EPOCHS = 2


class Stopped(Exception):
    """The end of a run, between two steps."""


class Stopping(Display):
    """Ends a run after so many steps in all."""

    def __init__(self, state: TrainState, steps: int) -> None:
        super().__init__(quiet=True)
        self.state, self.steps = state, steps

    def show_step(self, *_: object) -> None:
        if self.state.progress.step == self.steps:
            raise Stopped


def started(overrides: Sequence[str]) -> tuple[Setup, TrainState]:
    setup = prepare_run(compile_start_model(resolve_classes("tiny.seg", overrides)))
    return setup, build_start_state(setup)


def go_on(setup: Setup, state: TrainState, steps: int = -1) -> None:
    """Trains until the end, or until so many steps were made."""
    while state.progress.epoch < EPOCHS:
        try:
            train_epoch(setup, state, Stopping(state, steps), Clock(EPOCHS, 0.0))
        except Stopped:
            return
        state.progress.end_epoch(0.1)


@pytest.mark.parametrize(
    "optimizer", ["AdamW(lr = 5e-2)", "SGD(lr = 0.1)", "SGD(lr = 0.1, momentum = 0.0)", "Adam(lr = 5e-2)"]
)
@pytest.mark.parametrize("steps", [1, 3, 4, 5])
def test_resuming_is_bit_for_bit(noisy: Path, optimizer: str, steps: int) -> None:
    overrides = [
        f"train.optimizer={optimizer}",
        "train.ema=EMA()",
        "data.train.batch=1",
        "train.accumulate=2",
        "train.clip=0.5",
    ]
    setup, whole = started(overrides)
    go_on(setup, whole)
    assert whole.progress.step == 8

    setup, first = started(overrides)
    go_on(setup, first, steps)
    assert first.progress.step == steps
    folder = RunFolder(noisy / "run")
    folder.checkpoints.mkdir(parents=True)
    build_checkpoint_writer(setup, folder).save_last(first)

    setup, second = started(overrides)
    torch.manual_seed(1234)
    with safe_open(folder.state, framework="pt") as file:
        second.restore_state(load_file(folder.state), file.metadata())
    assert second.progress == first.progress
    go_on(setup, second)
    ours, theirs = second.collect_tensors(), whole.collect_tensors()
    assert set(ours) == set(theirs)
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    assert second.collect_facts() == whole.collect_facts()


def test_restored_tensors_have_the_memory_layout_of_the_weights(noisy: Path) -> None:
    setup, state = started([])
    go_on(setup, state, 1)
    tensors, facts = {k: v.contiguous() for k, v in state.collect_tensors().items()}, state.collect_facts()
    setup, other = started([])
    other.restore_state(tensors, facts)
    weight = setup.model.get_parameter("stem.weight")
    assert not weight.is_contiguous()
    assert other.optimizer.state[weight]["exp_avg"].stride() == weight.stride()


def test_noise_depends_on_seed_epoch_and_batch() -> None:
    seeds = {derive_noise_seed(seed, epoch, batch) for seed in (0, 1) for epoch in (0, 1) for batch in (0, 1)}
    assert len(seeds) == 8
    assert derive_noise_seed(3, 2, 1) == derive_noise_seed(3, 2, 1)


def test_the_scaler_is_part_of_the_state(noisy: Path) -> None:
    _, state = started([])
    state.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    _, other = started([])
    other.scaler = torch.amp.GradScaler("cpu")
    other.restore_state(state.collect_tensors(), state.collect_facts())
    assert other.scaler.get_scale() == 8.0
