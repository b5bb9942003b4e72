"""Finding where a nan or an infinity came from, by running the batch again with every node of the model watched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from segdsl.data.loading.loader import Batch
from segdsl.diagnostics import Diagnostic, SegError
from segdsl.run.engine.precision import StepPrecision
from segdsl.run.engine.setup import Setup
from segdsl.run.engine.state import RunProgress, TrainState, derive_noise_seed
from segdsl.text.listing import join_names
from segdsl.text.plural import pick_noun

MAX_IMAGE_NAMES = 8
"""Most image names that a message lists."""


@dataclass(frozen=True, slots=True)
class NonfiniteOrigin:
    """The first non-finite value: a description, and the node of the model that produced it (None for the loss)."""

    message: str
    node: fx.Node | None = None


class _WatchingInterpreter(fx.Interpreter):
    """Runs a model node by node and records which nodes produce non-finite outputs or gradients."""

    def __init__(self, model: fx.GraphModule) -> None:
        super().__init__(model)
        self.first_nonfinite: fx.Node | None = None
        self.gradient_spoilers: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> Any:
        # `fx.Interpreter` follows the model's own code, so it draws the same random numbers (dropout) as the failed
        # step.
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        # A view for each use: autograd adds up the gradients of all users of a tensor, and the sum would not show
        # which of them is at fault.
        args = fx.node.map_aggregate(args, partial(self._watch_value, n))  # type: ignore[arg-type]
        result = getattr(self, n.op)(n.target, args, kwargs)
        if self.first_nonfinite is None and n.op != "output" and not _is_finite(result):
            self.first_nonfinite = n
        return result

    def _watch_value(self, user: fx.Node, value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.requires_grad:
            return value
        view = value.view_as(value)
        view.register_hook(partial(self._check_gradient, user))
        return view

    def _check_gradient(self, user: fx.Node, gradient: Tensor) -> None:
        if not _is_finite(gradient):
            self.gradient_spoilers.add(user)


def diagnose_nonfinite(setup: Setup, state: TrainState, group: Sequence[Batch], value: float, rate: float) -> SegError:
    """Return the error that ends a run whose step on the batches of ``group`` has a non-finite loss or gradient.

    It is `loss-not-finite`, or `gradient-not-finite` if the loss ``value`` is finite. ``rate`` is the learning rate of
    the step.
    """
    progress, program = state.progress, setup.program
    place, origin = _find_batch(setup, state, group)
    first = progress.inside * program.train.accumulate
    suspects = [first + place] if origin else range(first, first + len(group))
    slug, what = "loss-not-finite", f"the loss is {value}"
    if math.isfinite(value):
        slug, what = "gradient-not-finite", "the gradient is not finite"
    where = (
        f"step {progress.step + 1} (epoch {progress.epoch + 1}), on {_format_image_names(setup, progress, suspects)}"
    )
    cause = origin.message if origin else "everything was finite when they were run again"
    help = f"lower the learning rate (now {rate:.1e}) or lengthen the warm-up, and check these images and masks"
    # Before the first step the learning rate has not changed anything yet and cannot be the cause.
    if progress.step == 0:
        help = "this is the first step: check this part of the program, the weights, and these images and masks"
    if setup.precision.format == "fp16":
        help = "train in `bf16` or `fp32` (`train.precision`): the values are too large for fp16"
    span = origin.node.meta.get("span") if origin and origin.node else None
    found = Diagnostic(slug, f"{what} at {where}; {cause}", help, span=span)
    return SegError([found], {name: source.text for name, source in program.sources.items()})


def _find_batch(setup: Setup, state: TrainState, group: Sequence[Batch]) -> tuple[int, NonfiniteOrigin | None]:
    """Run the batches of a step again; return the index of the one at fault, and the origin in the model."""
    progress = state.progress
    shares = setup.loss.compute_shares([batch.target for batch in group])
    for place, (batch, share) in enumerate(zip(group, shares, strict=True)):
        number = progress.inside * setup.program.train.accumulate + place
        # The same seed as in `train_epoch`: without it, dropout would hide what went wrong.
        torch.manual_seed(derive_noise_seed(setup.program.train.seed, progress.epoch, number))
        images = setup.network[0](batch.images.to(setup.device))
        loss_of = partial(_compute_scaled_loss, setup, state, batch.target.to(setup.device).long(), share)
        origin = find_origin(setup.model, images, loss_of, setup.precision)
        if origin is not None:
            return place, origin
    return 0, None


def _compute_scaled_loss(
    setup: Setup, state: TrainState, target: Tensor, share: Sequence[float], logits: Tensor
) -> Tensor:
    return state.scaler.scale(setup.loss.compute_part(logits.float(), target, share))


def _format_image_names(setup: Setup, progress: RunProgress, batches: Iterable[int]) -> str:
    train, subset = setup.train_loader, setup.train_loader.dataset.subset
    keys = train.make_epoch_keys(progress.epoch)
    names = [subset.get_image_path(key.position).name for number in batches for key in keys[number]]
    return f"{pick_noun(len(names), 'image')} {join_names(names, MAX_IMAGE_NAMES)}"


def find_origin(
    model: fx.GraphModule, images: Tensor, loss_of: Callable[[Tensor], Tensor], arithmetic: StepPrecision
) -> NonfiniteOrigin | None:
    """Return the first non-finite value of a forward and backward pass of normalized ``images`` (N, C, H, W).

    ``loss_of`` computes the loss from the logits. None if everything is finite. Clears the gradients of the parameters.
    """
    model.zero_grad(set_to_none=True)
    watched = _WatchingInterpreter(model)
    with arithmetic.autocast():
        logits = watched.run(images)
    if watched.first_nonfinite is not None:
        named = _describe_node(model, watched.first_nonfinite)
        return NonfiniteOrigin(f"the first non-finite output is that of {named}", watched.first_nonfinite)
    loss = loss_of(logits)
    if not _is_finite(loss):
        largest = logits.detach().abs().max().item()
        return NonfiniteOrigin(
            f"the output of the network is finite (largest magnitude {largest:.2g}), but its loss is not"
        )
    loss.backward()
    # In reverse order, which is that of the backward pass: the first node found received only finite gradients.
    for node in reversed(model.graph.nodes):
        if node.op == "output" and node in watched.gradient_spoilers:
            return NonfiniteOrigin("the forward pass is finite; the gradient of the loss is not")
        if node in watched.gradient_spoilers or not _has_finite_gradients(model, node):
            message = f"the forward pass is finite; the first non-finite gradient comes out of {_format_node(node)}"
            return NonfiniteOrigin(message, node)
    return None


def _is_finite(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_finite(item) for item in value)
    return not isinstance(value, Tensor) or bool(torch.isfinite(value).all())


def _get_parameters(model: nn.Module, node: fx.Node) -> list[nn.Parameter]:
    if node.op == "call_module":
        return list(model.get_submodule(str(node.target)).parameters())
    return [model.get_parameter(str(node.target))] if node.op == "get_attr" else []


def _has_finite_gradients(model: nn.Module, node: fx.Node) -> bool:
    return _is_finite([p.grad for p in _get_parameters(model, node)])


def _describe_node(model: nn.Module, node: fx.Node) -> str:
    has_bad_weights = not _is_finite([p.detach() for p in _get_parameters(model, node)])
    return f"{_format_node(node)}, whose weights are not finite either" if has_bad_weights else _format_node(node)


def _format_node(node: fx.Node) -> str:
    return f"`{node.meta.get('path', node.name)}`"
