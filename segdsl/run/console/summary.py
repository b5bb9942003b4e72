"""The facts that a run prints before its first step."""

from __future__ import annotations

from segdsl.run.console.display import RunSummary
from segdsl.run.engine.setup import Setup
from segdsl.run.folder.layout import RunFolder
from segdsl.scores.confusion import find_background, is_background_known


def summarize_run(setup: Setup, folder: RunFolder) -> RunSummary:
    """Return the numbers of a prepared run, and the names to print."""
    # A program resumed from its run folder is called "program"; the name of the folder says more.
    parameters, sampler = list(setup.model.parameters()), setup.program.data.train.sampler
    classes, named = setup.program.classes, setup.program.data.background
    background, is_known = find_background(classes, named), is_background_known(classes, named)
    return RunSummary(
        name=folder.root.resolve().name if setup.program.name == folder.program.stem else setup.program.name,
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        size=str(setup.program.data.input_size),
        train_images=len(setup.train_loader.dataset),
        val_images=len(setup.val_loader.dataset),
        classes=len(setup.program.classes),
        device=f"{setup.device}{'' if setup.precision.format == 'fp32' else f', in {setup.precision.format}'}",
        run=folder.root,
        epochs=setup.horizon.epochs,
        steps_per_epoch=setup.horizon.steps_per_epoch,
        monitor=setup.program.train.monitor,
        sampler=type(sampler).__name__ if sampler is not None else "",
        samples_per_epoch=setup.train_loader.dataset.epoch_length,
        background=setup.program.classes[background] if is_known else "",
    )
