"""What a run has while it trains, and how it looks before the first step."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch

from segdsl.run.console.display import Display
from segdsl.run.engine.clock import Clock
from segdsl.run.engine.ema import WeightAverage
from segdsl.run.engine.setup import Setup
from segdsl.run.engine.state import RunProgress, TrainState
from segdsl.run.folder.checkpoint import CheckpointWriter
from segdsl.run.folder.layout import RunFolder
from segdsl.run.folder.log import RunLog
from segdsl.run.folder.resume import ORIGIN_FACTS
from segdsl.run.signals import Signals
from segdsl.version import __version__
from segdsl.weights.adapt import INPUT_SIZE_KEY
from segdsl.words.checkpoint_policies import Checkpoints


@dataclass(frozen=True, slots=True)
class Session:
    """What a run has while it trains: what it was prepared from, its state, and whom it tells."""

    setup: Setup
    state: TrainState
    checkpoints: CheckpointWriter
    log: RunLog
    display: Display
    clock: Clock
    signals: Signals

    @property
    def folder(self) -> RunFolder:
        """The folder of the run."""
        return self.checkpoints.folder


def build_checkpoint_writer(setup: Setup, folder: RunFolder) -> CheckpointWriter:
    """Build the writer of a run's checkpoints."""
    train = setup.program.train
    keeper = train.keep if train.keep is not None else Checkpoints()
    facts = {
        "model": setup.program.graph.name,
        "classes": json.dumps(setup.program.classes),
        "monitor": train.monitor,
        INPUT_SIZE_KEY: str(setup.program.data.input_size),
        "data": setup.report.digest,
        **dict(zip(ORIGIN_FACTS, (__version__, torch.__version__, str(setup.device)), strict=True)),
    }
    return CheckpointWriter(folder, keeper, facts)


def build_start_state(setup: Setup) -> TrainState:
    """Build the state before the first step."""
    word = setup.program.train.ema
    average = WeightAverage(word, setup.model) if word is not None else None
    return TrainState(setup.model, setup.optimizer, average, setup.precision.build_scaler(), RunProgress())
