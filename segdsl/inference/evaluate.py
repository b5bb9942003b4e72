"""Scoring a run or an exported model on a subset, image by image; memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from segdsl.data.augment.sample import resized_mask
from segdsl.data.check.index import Index, open_index
from segdsl.data.formats.layout import Request
from segdsl.data.loading.dataset import EvalDataset
from segdsl.diagnostics import SegError, fail
from segdsl.inference.models.model import Model, open_model
from segdsl.inference.preprocess import restore
from segdsl.inference.score_files import ScoreFiles, check_out
from segdsl.inference.tiling import classify
from segdsl.ir.program import Program
from segdsl.run.program_data import data_root
from segdsl.scores.boundary import Boundaries
from segdsl.scores.confusion import Confusion, background_of, mean_known, or_none
from segdsl.scores.per_image import ImageScore, image_score

Scale = Literal["image", "input"]


def evaluate(
    path: str | Path, data: str | None = None, subset: str = "val", scale: Scale | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Scores the run folder or the exported `.xml` at ``path``.

    Returns what :func:`facts_of` says. ``data`` is the folder of the data set, by default that of the run. ``subset``
    "train" and "val" are what the program calls so, any other name is the data set's own. ``scale`` says where pixels
    are compared: at the size of each "image", or of the network's "input"; by default as `eval.scale` of the program.
    ``out`` is a folder for the scores of images and classes (see :mod:`segdsl.inference.score_files`). Raises SegError.
    """
    if out is not None:
        check_out(out)
    return evaluate_model(open_model(path), data, subset, scale, out)


def evaluate_model(
    model: Model, data: str | None = None, subset: str = "val", scale: Scale | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Scores an open model; see :func:`evaluate`."""
    said = model.program.eval
    scale = scale or said.scale
    name = _subset_name(model, subset)
    samples = EvalDataset(_open_data(model, data, name), name)
    total = Confusion(model.classes, model.ignore)
    boundaries = None if said.boundary is None else Boundaries(len(model.classes), model.ignore, said.boundary)
    folder = samples.subset.image_folder
    with ScoreFiles(out, model.classes, folder, boundaries is not None) as files:
        for score in image_scores(model, samples, scale, boundaries):
            total.add(score.confusion)
            files.image(score)
        files.finish(total, boundaries.by_class if boundaries else None)
    return facts_of(model.program, total, boundaries, len(samples), scale, out)


def image_scores(
    model: Model, samples: EvalDataset, scale: Scale, boundaries: Boundaries | None = None
) -> Iterator[ImageScore]:
    """The score of every image, as the section `eval` of the program looks at it; added to ``boundaries``."""
    size = model.input_size
    for position in range(len(samples)):
        sample = samples[position]
        prediction, target = classify(model, sample.image), sample.mask
        if scale == "image":
            prediction = restore(prediction, *sample.size)
        else:  # as validation in training sees the mask, so that both say the same
            prediction, target = (resized_mask(ids, (size.height, size.width)) for ids in (prediction, target))
        yield image_score(
            position, samples.path(position), prediction, target, model.classes, model.ignore, boundaries=boundaries
        )


def facts_of(
    program: Program, total: Confusion, boundaries: Boundaries | None, images: int, scale: Scale, out: Path | None
) -> dict[str, Any]:
    """The scores of a subset as JSON has them; None for one that is not defined.

    `dice`, `miou` and `accuracy` are over all classes; `dice_micro` sums counts before it divides, and is the accuracy
    where nothing is left out; `foreground` has `dice`, `dice_micro` and `miou` without the class `background`.
    `per_class` maps names to `dice`, `iou`, `precision`, `recall`, `pixels` (in masks) and `predicted`. `confusion` has
    a list for each true class: its pixels that were said to be each class. `boundary_f1`, here and by class, is there
    with `eval.boundary`. `images` and `scale` say what was scored, `tile`, `overlap`, `flip` and `scales` how it was
    looked at, and `out` where the tables are.
    """
    said = program.eval
    background = background_of(program.classes, program.data.background)
    per_class: dict[str, dict[str, Any]] = {
        name: {**scores, "pixels": true, "predicted": predicted}
        for (name, scores), true, predicted in zip(
            total.per_class().items(), total.true.tolist(), total.predicted.tolist(), strict=True
        )
    }
    facts: dict[str, Any] = {key: or_none(value) for key, value in total.summary().items()}
    facts["dice_micro"] = facts["accuracy"]
    facts["background"] = program.classes[background]
    facts["foreground"] = {key: or_none(value) for key, value in total.foreground(background).items()}
    if boundaries is not None:
        facts["boundary_f1"] = or_none(mean_known(boundaries.by_class))
        for scores, value in zip(per_class.values(), boundaries.by_class.tolist(), strict=True):
            scores["boundary_f1"] = or_none(value)
    return {
        **facts,
        "per_class": per_class,
        "confusion": total.counts.tolist(),
        "images": images,
        "scale": scale,
        "tile": None if said.tile is None else str(said.tile),
        "overlap": said.overlap,
        "flip": said.flip,
        "scales": list(said.scales),
        "boundary": said.boundary,
        "out": None if out is None else str(out),
    }


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
