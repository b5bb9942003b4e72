"""Scoring a run or an exported model on a subset, image by image."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from segdsl.data.dataset import EvalDataset
from segdsl.data.index import Index, open_index
from segdsl.data.layout import Request
from segdsl.diagnostics import SegError, fail
from segdsl.export.model import Model, open_model
from segdsl.run.metrics import Confusion
from segdsl.run.sources import data_root

Scale = Literal["image", "input"]


def evaluate(
    path: str | Path, data: str | None = None, subset: str = "val", scale: Scale | None = None
) -> dict[str, Any]:
    """Scores the run folder or the exported `.xml` at ``path``.

    Returns `dice`, `miou`, `accuracy`, `per_class` (name -> `dice`, `iou`; None where a class does not occur), `images`
    and `scale`. ``data`` is the folder of the data set, by default that of the run. ``subset`` "train" and "val" are
    what the program calls so, any other name is the data set's own. ``scale`` says where pixels are compared: at the
    size of each "image", or of the network's "input"; by default as `eval.scale` of the program. Raises SegError.
    """
    model = open_model(path)
    return evaluate_model(model, data, subset, scale)


def evaluate_model(
    model: Model, data: str | None = None, subset: str = "val", scale: Scale | None = None
) -> dict[str, Any]:
    """Scores an open model; see :func:`evaluate`."""
    scale = scale or model.program.eval.scale
    name = _subset_name(model, subset)
    index = _open_data(model, data, name)
    size = model.input_size
    samples = EvalDataset(index, name, (size.height, size.width) if scale == "input" else None)
    confusion = Confusion(model.classes, model.ignore)
    for position in range(len(samples)):
        sample = samples[position]
        confusion.update(model.predict(sample.image), sample.mask)
    means = {key: None if math.isnan(value) else value for key, value in confusion.summary().items()}
    return {**means, "per_class": confusion.per_class(), "images": len(samples), "scale": scale}


def _subset_name(model: Model, subset: str) -> str:
    said = {"train": model.program.data.train.subset, "val": model.program.data.val.subset}
    return said.get(subset, subset)


def _open_data(model: Model, data: str | None, subset: str) -> Index:
    program = model.program
    if data is None and program.data.root is not None:
        root = model.base / program.data.root
    else:
        root = data_root(program, data)
    index = open_index(root, program.data.format, Request.of(program, [subset]))
    if index.classes != model.classes:
        raise _classes_differ(model, index)
    return index


def _classes_differ(model: Model, index: Index) -> SegError:
    ours, theirs = (
        ", ".join(names[:8]) + (", …" if len(names) > 8 else "") for names in (model.classes, index.classes)
    )
    return fail(
        "classes-differ",
        f"the model has {len(model.classes)} classes ({ours}), the data {len(index.classes)} ({theirs})",
        "score it on data with the names that it was trained with, in their order",
        path=str(index.root),
    )
