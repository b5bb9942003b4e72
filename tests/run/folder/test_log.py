"""The log of a run, and the name of its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segdsl.diagnostics import SegError
from segdsl.run.folder.layout import RunFolder, check_out
from segdsl.run.folder.log import EpochRow, RunLog
from segdsl.scores.confusion import Confusion


def test_every_class_has_its_own_tensorboard_tag(tmp_path: Path) -> None:
    classes = ("a.b", "a/b", "plain")
    with RunLog(RunFolder(tmp_path), classes) as log:
        log.write_epoch(EpochRow(1, 4, 1.0, 0.1, 2.0, 1.0, Confusion(classes, 255), 9.0))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"val/dice/a.b", "val/dice/a%2Fb", "val/dice/plain", "val/foreground/dice", "train/loss"} <= set(tags)
    assert all(len(events.Scalars(tag)) == 1 for tag in tags)


def test_a_folder_name_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(SegError) as caught:
        check_out(Path("x\udcff"))
    assert caught.value.diagnostics[0].slug == "out-not-writable"
    check_out(Path("ü"))
