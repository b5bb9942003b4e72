"""Reading and writing weights files: atomic writes, and no code in a file is ever run."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from segdsl.diagnostics import Diagnostic, SegError
from segdsl.weights.files import read_weights, save_weights
from segdsl.weights.pickles import TaskName


def test_what_is_saved_is_read_again_with_its_metadata(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    save_weights(model, tmp_path / "w.safetensors", {"epoch": "3"})
    tensors, metadata = read_weights(tmp_path / "w.safetensors")
    assert metadata == {"epoch": "3"}
    assert tensors.keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in tensors.items())
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
    assert (tmp_path / "w.safetensors").stat().st_mode & 0o077 == 0o666 & ~umask() & 0o077


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_failed_write_keeps_the_file_that_was_there(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"old")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("segdsl.weights.files.save_file", full)
    with pytest.raises(SegError) as caught:
        save_weights(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), tmp_path / "w.safetensors", {})
    assert caught.value.diagnostics[0].slug == "weights-not-written"
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("w.safetensors", b"old")]


def test_writing_into_a_missing_folder_is_a_finding(tmp_path: Path) -> None:
    with pytest.raises(SegError) as caught:
        save_weights(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), tmp_path / "no" / "w.safetensors", {})
    assert caught.value.diagnostics[0].slug == "weights-not-written"


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


class Built:
    """Pickles as an object that is made without a call, and then given a state."""

    def __init__(self) -> None:
        self.x = 1


def saved(content: object, **options: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def with_entries(content: bytes, **entries: bytes) -> bytes:
    """A zip file with further entries, or with those of the same name replaced; dots stand for themselves."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            if name.rpartition("/")[2] not in entries:
                new.writestr(name, old.read(name))
        root = old.namelist()[0].partition("/")[0]
        for name, data in entries.items():
            new.writestr(f"{root}/{name}", data)
    return buffer.getvalue()


def zipped(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return buffer.getvalue()


def state() -> dict[str, Tensor]:
    return {"weight": torch.ones(4, 3), "bias": torch.zeros(4)}


def mkdir(target: Path) -> Calls:
    return Calls(os.mkdir, str(target))


def by_name(target: Path) -> bytes:
    """A pickle of the oldest form, which calls `os.mkdir` by its name."""
    return f"(S'{target}'\nios\nmkdir\n.".encode()


def old_form(body: bytes) -> bytes:
    """The pickles of a PyTorch file before zip files, with ``body`` as the content."""
    head = [pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join(head) + body


def proto2(body: bytes) -> bytes:
    return with_entries(saved(state()), **{"data.pkl": b"\x80\x02" + body})


HOSTILE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "reduce": (lambda t: saved({"state_dict": state(), "x": mkdir(t)}), "posix.mkdir"),
    "reduce, old form": (lambda t: saved({"x": mkdir(t)}, _use_new_zipfile_serialization=False), "posix.mkdir"),
    "reduce, as the whole": (lambda t: saved(mkdir(t)), "posix.mkdir"),
    "reduce, in a key": (lambda t: saved({mkdir(t): torch.ones(1)}), "posix.mkdir"),
    "eval": (lambda t: saved({"x": Calls(eval, f"__import__('os').mkdir({str(t)!r})")}), "eval"),
    "global": (lambda t: saved({"state_dict": state(), "hook": os.system}), "posix.system"),
    "global of a module of ours": (lambda t: proto2(b"csegdsl.cli.invoke\nrun_cli\n."), "segdsl.cli.invoke.run_cli"),
    "global by protocol 4": (
        lambda t: with_entries(saved(state()), **{"data.pkl": pickle.dumps(mkdir(t), 4)}),
        "posix.mkdir",
    ),
    "instance by name": (lambda t: old_form(by_name(t)), "os.mkdir"),
    "instance by name, zipped": (lambda t: proto2(by_name(t)), "os.mkdir"),
    "class without a call": (lambda t: saved({"state_dict": state(), "x": Built()}), "Built"),
    "namespace": (lambda t: saved({"hyper": argparse.Namespace(lr=1), "state_dict": state()}), "argparse.Namespace"),
    "whole model": (lambda t: saved(nn.Linear(2, 2)), "torch.nn.modules.linear.Linear"),
    "behind the enum of OTX": (
        lambda t: proto2(b"cotx.types.task\nOTXTaskType\n(" + b"cposix\nmkdir\n(X\x01\x00\x00\x00atRtR."),
        "posix.mkdir",
    ),
    "other classes of OTX": (lambda t: proto2(b"cotx.core.types.label\nLabelInfo\n)\x81."), "LabelInfo"),
    "extension": (lambda t: proto2(b"\x82\x01."), "extension 1"),
}
"""Files that would run code, or that name it, and the name that is to be read in the refusal."""
NO_WEIGHTS: dict[str, Callable[[Path], bytes]] = {
    "a call alone": lambda t: pickle.dumps(mkdir(t)),
    "a hostile file in a zip file": lambda t: zipped(**{"weights.pth": saved({"x": mkdir(t)})}),
    "a hostile pickle in a zip file": lambda t: zipped(**{"payload.pkl": pickle.dumps(mkdir(t))}),
    "a program": lambda t: with_entries(saved(state()), **{"constants.pkl": pickle.dumps(mkdir(t)), "code/x.py": b""}),
    "a swollen zip file": lambda t: swollen(),
    "one tensor": lambda t: saved(torch.ones(2)),
    "a list": lambda t: saved([torch.ones(2)]),
    "empty": lambda t: b"",
    "a web page": lambda t: b"<html>not found</html>",
    "cut": lambda t: half(saved(state())),
    "cut short": lambda t: saved(state())[:10],
    "cut, old form": lambda t: half(saved(state(), _use_new_zipfile_serialization=False)),
    "a broken pickle": lambda t: b"\x80\x04garbage",
    "a broken zip file": lambda t: b"PK\x03\x04" + bytes(100),
    "cut safetensors": lambda t: safetensors.torch.save(state())[:-7],
    "cut safetensors header": lambda t: safetensors.torch.save(state())[:60],
    "a safetensors header that is no JSON": lambda t: (20).to_bytes(8, "little") + b"{" + bytes(40),
}


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def swollen() -> bytes:
    """A zip file of some kB that would unfold to 64 MiB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\x80\x02}.")
        file.writestr("archive/data/0", bytes(1 << 26))
    return buffer.getvalue()


def refused(tmp_path: Path, content: bytes) -> Diagnostic:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(SegError) as caught:
        read_weights(path)
    (found,) = caught.value.diagnostics
    assert (found.slug, found.path) == ("weights-unreadable", str(path))
    return found


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_would_run_code_is_rejected_and_runs_nothing(tmp_path: Path, kind: str, capfd, recwarn) -> None:
    make, name = HOSTILE[kind]
    found = refused(tmp_path, make(tmp_path / "ran"))
    assert f"{name}`" in found.message
    assert not (tmp_path / "ran").exists()
    assert capfd.readouterr() == ("", "") and not recwarn.list


@pytest.mark.parametrize("kind", NO_WEIGHTS)
def test_an_invalid_weights_file_is_rejected_and_runs_nothing(
    tmp_path: Path, kind: str, wording, capfd, recwarn
) -> None:
    found = refused(tmp_path, NO_WEIGHTS[kind](tmp_path / "ran"))
    wording(f"{found.message}\n{found.help}")
    assert not (tmp_path / "ran").exists()
    assert capfd.readouterr() == ("", "") and not recwarn.list


def test_the_hostile_files_are_hostile(tmp_path: Path) -> None:
    """A reader that trusts them does make the folder: else the tests above would show nothing."""
    for number, kind in enumerate(["reduce", "reduce, old form", "eval", "instance by name"]):
        path = tmp_path / f"{number}.pth"
        path.write_bytes(HOSTILE[kind][0](tmp_path / str(number)))
        with suppress(Exception):
            torch.load(path, weights_only=False)
        assert (tmp_path / str(number)).is_dir(), kind


def test_a_second_pickle_in_a_file_is_ignored(tmp_path: Path) -> None:
    content = with_entries(saved(state()), **{"other.pkl": pickle.dumps(mkdir(tmp_path / "ran"))})
    (tmp_path / "w.pth").write_bytes(content)
    assert set(read_weights(tmp_path / "w.pth")[0]) == {"weight", "bias"}
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("module", ["otx.types.task", "otx.core.types.task"])
def test_the_task_enum_of_otx_is_replaced(tmp_path: Path, module: str, otx_task) -> None:
    path = tmp_path / "w.ckpt"
    with otx_task(module) as task:
        path.write_bytes(saved({"state_dict": state(), "hyper_parameters": {"task": task}}))
    content = read_weights(path)[0]
    assert type(content["hyper_parameters"]["task"]) is TaskName
    assert content["hyper_parameters"]["task"].value == "SEMANTIC_SEGMENTATION"
    assert module not in sys.modules, "nothing of that name is imported"


def test_a_missing_file_and_a_folder_are_reported(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(SegError) as caught:
            read_weights(path)
        (found,) = caught.value.diagnostics
        assert (found.slug, found.path) == ("weights-missing", str(path))
