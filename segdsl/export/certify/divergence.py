"""Where two forms of a model part: the first node whose values differ by more than rounding explains."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from segdsl.inference.models import openvino_runtime
from segdsl.inference.models.tensor_names import tensors_by_name, with_outputs

PARTED = 0.01
"""Values part where their root mean square difference exceeds this share of their standard deviation."""
TAPS = 48
"""So many nodes are looked at in one compilation of the model: all at once would not fit into memory."""


def first_parting(
    network: fx.GraphModule,
    model: Any,
    hint: openvino_runtime.Hint,
    xml: Path,
    normalized: npt.NDArray[np.float32],
    fed: npt.NDArray[np.float32],
) -> str | None:
    """The path of the first node where the OpenVINO ``model`` parts from ``network`` on an image, None where none does.

    Both take images (1, C, h, w): torch ``normalized`` ones, the model what it is ``fed``. Nodes are looked at evenly,
    then those before the first that parted: one that parts and comes back between two of them is not seen.
    """
    known = tensors_by_name(model)
    paths = [path for path in paths_of(network) if path in known]
    found: str | None = None
    while paths:
        step = -(-len(paths) // TAPS)
        looked = list(dict.fromkeys([*paths[step - 1 :: step], paths[-1]]))
        parted = _parted(network, model, hint, xml, normalized, fed, looked)
        first = next((k for k, path in enumerate(looked) if path in parted), None)
        if first is None:
            return found
        found = looked[first]
        before = paths.index(looked[first - 1]) + 1 if first else 0
        paths = paths[before : paths.index(found)]
    return found


def paths_of(network: fx.GraphModule) -> list[str]:
    """The paths of the nodes that compute something, in order."""
    computed = (node for node in network.graph.nodes if node.op in ("call_module", "call_function"))
    return list(dict.fromkeys(node.meta["path"] for node in computed if "path" in node.meta))


def _parted(
    network: fx.GraphModule,
    model: Any,
    hint: openvino_runtime.Hint,
    xml: Path,
    normalized: npt.NDArray[np.float32],
    fed: npt.NDArray[np.float32],
    paths: Sequence[str],
) -> set[str]:
    values = openvino_runtime.compile_model(with_outputs(model, paths), hint, xml, inside=True)(fed)
    wanted = values_at(network, torch.from_numpy(normalized), paths)
    parted: set[str] = set()
    for place, path in enumerate(paths, 1):
        ours, theirs = wanted[path].numpy(), values[place]
        if ours.shape == theirs.shape and not _rms(ours - theirs) <= PARTED * max(float(ours.std()), 1e-6):
            parted.add(path)
    return parted


def _rms(values: npt.NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


@torch.inference_mode()
def values_at(network: fx.GraphModule, image: Tensor, paths: Collection[str]) -> dict[str, Tensor]:
    """What the nodes of these paths give for an image (1, C, h, w)."""
    taps = Taps(network, frozenset(paths))
    taps.run(image)
    return taps.found


class Taps(fx.Interpreter):
    """Runs a model and keeps the tensors of some nodes, by their paths; of all where ``paths`` is None."""

    def __init__(self, model: fx.GraphModule, paths: Collection[str] | None) -> None:
        super().__init__(model)
        self.paths = paths
        self.found: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        path = n.meta.get("path") if n.op in ("call_module", "call_function") else None
        if path is not None and isinstance(value, Tensor) and (self.paths is None or path in self.paths):
            self.found[path] = value
        return value
