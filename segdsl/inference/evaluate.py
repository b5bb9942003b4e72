"""Evaluation of runs and exported models on a subset, image by image; memory does not grow with the image count."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from segdsl.data.augment.sample import resize_mask
from segdsl.data.check.index import Index, open_index
from segdsl.data.formats.layout import Request
from segdsl.data.loading.dataset import EvalDataset
from segdsl.diagnostics import SegError, fail
from segdsl.inference.models.model import Model
from segdsl.inference.models.opener import open_model
from segdsl.inference.preprocess import restore_mask_size
from segdsl.inference.score_files import ScoreWriter, check_score_folder
from segdsl.inference.tiling import classify_image
from segdsl.ir.program import Program
from segdsl.run.program_data import get_data_root
from segdsl.scores.boundary import BoundaryScores
from segdsl.scores.confusion import Confusion, average_known, find_background, nan_to_none
from segdsl.scores.per_image import ImageScore, score_image
from segdsl.text.listing import join_names

Scale = Literal["image", "input"]


def evaluate_path(
    path: str | Path, data: str | None = None, subset: str = "val", scale: Scale | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Evaluate the run folder or the exported model at ``path``.

    ``data`` is the dataset folder, by default that of the run. The ``subset`` "train" or "val" is the one that the
    program uses as such; any other name is a subset of the dataset. Predictions are compared with masks at the
    ``scale`` of each "image" or of the network's "input", by default `eval.scale` of the program. ``out`` is a folder
    for tables of scores, see :class:`ScoreWriter`.

    Returns the scores as :func:`summarize_scores` does. Raises SegError.
    """
    # Checked before the model is opened: a wrong folder must not cost an evaluation.
    if out is not None:
        check_score_folder(out)
    return evaluate_model(open_model(path), data, subset, scale, out)


def evaluate_model(
    model: Model, data: str | None = None, subset: str = "val", scale: Scale | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Evaluate an open model; see :func:`evaluate_path`."""
    settings = model.program.eval
    scale = scale or settings.scale
    name = _resolve_subset_name(model, subset)
    samples = EvalDataset(_open_subset_index(model, data, name), name)
    total = Confusion(model.classes, model.ignore)
    boundaries = None
    if settings.boundary is not None:
        boundaries = BoundaryScores(len(model.classes), model.ignore, settings.boundary)
    folder = samples.subset.image_folder
    with ScoreWriter(out, model.classes, folder, boundaries is not None) as files:
        for score in score_images(model, samples, scale, boundaries):
            total.add_counts(score.confusion)
            files.write_image(score)
        files.finish(total, boundaries.scores_by_class if boundaries else None)
    return summarize_scores(model.program, total, boundaries, len(samples), scale, out)


def score_images(
    model: Model, samples: EvalDataset, scale: Scale, boundaries: BoundaryScores | None = None
) -> Iterator[ImageScore]:
    """Yield the score of every image, predicted as the section `eval` of the program sets; update ``boundaries``."""
    size = model.input_size
    for position in range(len(samples)):
        sample = samples[position]
        prediction, target = classify_image(model, sample.image), sample.mask
        if scale == "image":
            prediction = restore_mask_size(prediction, *sample.size)
        else:
            # Resized like the masks in validation during training, so that both give the same scores.
            prediction, target = (resize_mask(ids, (size.height, size.width)) for ids in (prediction, target))
        confusion = Confusion(model.classes, model.ignore)
        yield score_image(position, samples.get_image_path(position), confusion, prediction, target, boundaries)


def summarize_scores(
    program: Program,
    total: Confusion,
    boundaries: BoundaryScores | None,
    image_count: int,
    scale: Scale,
    out: Path | None,
) -> dict[str, Any]:
    """Return the scores of a subset for JSON; an undefined score is None.

    `dice`, `miou` and `accuracy` are over all classes; `dice_micro` sums counts before dividing; `foreground` has
    `dice`, `dice_micro` and `miou` without the class `background`. `per_class` maps names to `dice`, `iou`,
    `precision`, `recall`, `pixels` (in masks) and `predicted`. `confusion` has a row for each true class with its
    pixels by predicted class. `boundary_f1`, here and by class, exists with `eval.boundary`. `images` and `scale` are
    what was scored, `tile`, `overlap`, `flip` and `scales` the settings of the prediction, `out` the folder of tables.
    """
    settings = program.eval
    background = find_background(program.classes, program.data.background)
    per_class: dict[str, dict[str, Any]] = {
        name: {**scores, "pixels": true, "predicted": predicted}
        for (name, scores), true, predicted in zip(
            total.collect_class_scores().items(),
            total.target_pixels.tolist(),
            total.prediction_pixels.tolist(),
            strict=True,
        )
    }
    facts: dict[str, Any] = {key: nan_to_none(value) for key, value in total.summarize_scores().items()}
    # Over all classes every wrong pixel is one false positive and one false negative: micro Dice equals accuracy.
    facts["dice_micro"] = facts["accuracy"]
    facts["background"] = program.classes[background]
    facts["foreground"] = {
        key: nan_to_none(value) for key, value in total.compute_foreground_scores(background).items()
    }
    if boundaries is not None:
        facts["boundary_f1"] = nan_to_none(average_known(boundaries.scores_by_class))
        for scores, value in zip(per_class.values(), boundaries.scores_by_class.tolist(), strict=True):
            scores["boundary_f1"] = nan_to_none(value)
    return {
        **facts,
        "per_class": per_class,
        "confusion": total.counts.tolist(),
        "images": image_count,
        "scale": scale,
        "tile": None if settings.tile is None else str(settings.tile),
        "overlap": settings.overlap,
        "flip": settings.flip,
        "scales": list(settings.scales),
        "boundary": settings.boundary,
        "out": None if out is None else str(out),
    }


def _resolve_subset_name(model: Model, subset: str) -> str:
    names = {"train": model.program.data.train.subset, "val": model.program.data.val.subset}
    return names.get(subset, subset)


def _open_subset_index(model: Model, data: str | None, subset: str) -> Index:
    program = model.program
    if data is None and program.data.root is not None:
        # An exported model resolves a relative path against its run, not against the working directory.
        root = model.base_folder / program.data.root
    else:
        root = get_data_root(program, data)
    index = open_index(root, program.data.format, Request.from_program(program, [subset]))
    if index.classes != model.classes:
        raise _classes_differ_error(model, index)
    return index


def _classes_differ_error(model: Model, index: Index) -> SegError:
    ours, theirs = (join_names(names) for names in (model.classes, index.classes))
    return fail(
        "classes-differ",
        f"the model has {len(model.classes)} classes ({ours}) but the dataset has {len(index.classes)} ({theirs})",
        "evaluate on a dataset with the class names of the model, in the same order",
        path=str(index.root),
    )
