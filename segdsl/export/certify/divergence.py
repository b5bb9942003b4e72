"""Search for the first node at which two forms of a model diverge by more than rounding."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from segdsl.inference.models import openvino_runtime
from segdsl.inference.models.tensor_names import add_outputs, map_tensors_by_name

DIVERGENCE_THRESHOLD = 0.01
"""Values diverge if their root mean square difference exceeds this share of their standard deviation."""
# The activations of all nodes at once would not fit into memory.
TAPS_PER_COMPILATION = 48
"""Number of nodes that are compared in one compilation of the model."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A network in PyTorch and the OpenVINO ``model`` in ``xml``, which compute the same image (1, C, h, w).

    ``network`` takes it as ``normalized``, ``model`` as ``model_input``; ``hint`` is the precision of the model.
    """

    network: fx.GraphModule
    model: Any
    hint: openvino_runtime.Hint
    xml: Path
    normalized: npt.NDArray[np.float32]
    model_input: npt.NDArray[np.float32]


def find_first_divergence(comparison: Comparison) -> str | None:
    """Return the path of the first node at which the model diverges from the network, or None."""
    tensors = map_tensors_by_name(comparison.model)
    # Nodes that OpenVINO has fused or removed cannot be compared.
    paths = [path for path in list_compute_paths(comparison.network) if path in tensors]
    result: str | None = None
    while paths:
        # Evenly spread probes first, then those before the first divergent one. A divergence that disappears again
        # between two probes is missed.
        step = -(-len(paths) // TAPS_PER_COMPILATION)
        probes = list(dict.fromkeys([*paths[step - 1 :: step], paths[-1]]))
        divergent = _find_divergent_paths(comparison, probes)
        first = next((k for k, path in enumerate(probes) if path in divergent), None)
        if first is None:
            return result
        result = probes[first]
        start = paths.index(probes[first - 1]) + 1 if first else 0
        paths = paths[start : paths.index(result)]
    return result


def list_compute_paths(network: fx.GraphModule) -> list[str]:
    """Return the paths of the nodes that compute something, in order."""
    computed = (node for node in network.graph.nodes if node.op in ("call_module", "call_function"))
    return list(dict.fromkeys(node.meta["path"] for node in computed if "path" in node.meta))


def _find_divergent_paths(comparison: Comparison, paths: Sequence[str]) -> set[str]:
    tapped = add_outputs(comparison.model, paths)
    compiled = openvino_runtime.compile_model(tapped, comparison.hint, comparison.xml, has_inner_outputs=True)
    values = compiled(comparison.model_input)
    expected = compute_activations(comparison.network, torch.from_numpy(comparison.normalized), paths)
    divergent: set[str] = set()
    # Output 0 is the model's own; those of the paths follow.
    for index, path in enumerate(paths, 1):
        ours, theirs = expected[path].numpy(), values[index]
        # Not `>`: NaN counts as divergent.
        if ours.shape == theirs.shape and not _rms(ours - theirs) <= DIVERGENCE_THRESHOLD * max(
            float(ours.std()), 1e-6
        ):
            divergent.add(path)
    return divergent


def _rms(values: npt.NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


@torch.inference_mode()
def compute_activations(network: fx.GraphModule, image: Tensor, paths: Collection[str]) -> dict[str, Tensor]:
    """Return the tensors of the nodes at ``paths`` for an image (1, C, h, w)."""
    taps = TapInterpreter(network, frozenset(paths))
    taps.run(image)
    return taps.activations


class TapInterpreter(fx.Interpreter):
    """Runs a model and records the tensors of the nodes at ``paths``, or of all nodes if that is None."""

    def __init__(self, model: fx.GraphModule, paths: Collection[str] | None) -> None:
        super().__init__(model)
        self.paths = paths
        self.activations: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        path = n.meta.get("path") if n.op in ("call_module", "call_function") else None
        if path is not None and isinstance(value, Tensor) and (self.paths is None or path in self.paths):
            self.activations[path] = value
        return value
