"""Everything a training step depends on besides program and data, as one object that can be saved and restored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from segdsl.data.augment.sample import NOISE_STREAM, counter_rng
from segdsl.run.engine.ema import WeightAverage
from segdsl.text.json import parse_json

NOISE_SEEDS = 1 << 63


@dataclass(slots=True)
class RunProgress:
    """How far a run is: completed epochs, optimizer steps, and the monitored value of each epoch (larger is better).

    ``inside`` counts the steps of the unfinished epoch; ``losses`` and ``norms`` are the sums of their losses and
    gradient norms, ``clipped`` counts those whose gradient exceeded `train.clip`. ``overflows`` counts the latest
    consecutive steps that overflowed fp16.
    """

    # The names of the fields are keys in the state file: renaming one makes older runs impossible to resume.
    epoch: int = 0
    step: int = 0
    inside: int = 0
    losses: float = 0.0
    norms: float = 0.0
    clipped: int = 0
    overflows: int = 0
    history: list[float] = field(default_factory=list)

    def end_step(self, loss: float, norm: float, clipped: bool) -> None:
        """Record a step."""
        self.step += 1
        self.inside += 1
        self.losses += loss
        self.norms += norm
        self.clipped += clipped

    def end_epoch(self, value: float) -> None:
        """Record the end of an epoch with this monitored value, larger being better."""
        self.epoch += 1
        self.history.append(value)
        self.inside, self.losses, self.norms, self.clipped = 0, 0.0, 0.0, 0


@dataclass(slots=True)
class TrainState:
    """The state of a run between two optimizer steps.

    It has no random number generator: what a step draws (dropout, drop path, the start of a matrix factorization)
    depends on :func:`derive_noise_seed` alone.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    scaler: torch.amp.GradScaler
    progress: RunProgress

    def use_average(self) -> AbstractContextManager[None]:
        """Let the model use the weights that are validated, saved and deployed: the average if there is one."""
        return nullcontext() if self.average is None else self.average.apply_average()

    def collect_weights(self) -> dict[str, Tensor]:
        """Return these weights by name, as a model's state."""
        return {**self.model.state_dict(), **({} if self.average is None else self.average.means)}

    def collect_tensors(self) -> dict[str, Tensor]:
        """Return `model:NAME`, `average:NAME` and the optimizer's, such as `exp_avg:NAME`; NAME is the model's."""
        found = {f"model:{name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.average is not None:
            found.update({f"average:{name}": tensor for name, tensor in self.average.means.items()})
        for name, kind, value in self._iterate_optimizer_values():
            if isinstance(value, Tensor):
                found[f"{kind}:{name}"] = value
        return found

    def collect_facts(self) -> dict[str, str]:
        """Return what is not a tensor, as JSON by name: progress, and numbers of optimizer, average and scaler."""
        numbers = {
            f"{kind}:{name}": v for name, kind, v in self._iterate_optimizer_values() if not isinstance(v, Tensor)
        }
        others = {
            "optimizer": numbers,
            "updates": 0 if self.average is None else self.average.updates,
            "scaler": self.scaler.state_dict(),
        }
        return {name: json.dumps(value) for name, value in {**asdict(self.progress), **others}.items()}

    def restore_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
        """Restore the results of :meth:`collect_tensors` and :meth:`collect_facts`; training continues bit for bit.

        Raises RuntimeError or KeyError if they belong to another program.
        """
        kinds: dict[str, dict[str, Any]] = {}
        for key, tensor in tensors.items():
            kind, _, name = key.partition(":")
            kinds.setdefault(kind, {})[name] = tensor
        self.model.load_state_dict(kinds.pop("model"))
        averages = kinds.pop("average", {})
        if self.average is not None:
            for name, mean in self.average.means.items():
                mean.copy_(averages[name])
            self.average.updates = parse_json(facts["updates"])
        for key, number in parse_json(facts["optimizer"]).items():
            kind, _, name = key.partition(":")
            kinds.setdefault(kind, {})[name] = number
        self._restore_optimizer(kinds)
        self.scaler.load_state_dict(parse_json(facts["scaler"]))
        for entry in fields(RunProgress):
            setattr(self.progress, entry.name, parse_json(facts[entry.name]))

    def _iterate_optimizer_values(self) -> Iterator[tuple[str, str, Any]]:
        """Yield what the optimizer stores for each parameter: its name, the kind of value, the value."""
        names: dict[Any, str] = {parameter: name for name, parameter in self.model.named_parameters()}
        for parameter, values in self.optimizer.state.items():
            for kind, value in values.items():
                yield names[parameter], kind, value

    def _restore_optimizer(self, kinds: Mapping[str, Mapping[str, Any]]) -> None:
        parameters = dict(self.model.named_parameters())
        self.optimizer.state.clear()
        for kind, values in kinds.items():
            for name, value in values.items():
                parameter = parameters[name]
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    # Fused kernels walk through memory, so these tensors need the memory layout of their parameter.
                    value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
                elif isinstance(value, Tensor) and self.optimizer.defaults.get("fused"):
                    value = value.to(parameter.device)
                self.optimizer.state[parameter][kind] = value


def derive_noise_seed(seed: int, epoch: int, batch: int) -> int:
    """Return the seed for random numbers drawn while a network learns from a batch (epoch and batch count from 0)."""
    return int(counter_rng(seed, epoch, batch, stream=NOISE_STREAM).integers(NOISE_SEEDS))
