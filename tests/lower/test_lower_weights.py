"""Weight files: every layout that is found, what does not fit, and files that must not be trusted."""

from __future__ import annotations

import argparse
import io
import os
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from segdsl.diagnostics import SegError
from segdsl.lower.weights import load_weights, read_weights, save_weights


class Network(nn.Module):
    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, classes, 1)


def state(classes: int = 2) -> dict[str, Tensor]:
    torch.manual_seed(7)
    return Network(classes).state_dict()


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in tensors.items()}


def error_of(model: nn.Module, path: Path, **options) -> SegError:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(SegError) as caught:
        load_weights(model, path, **options)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items()), "copied before refusing"
    return caught.value


LAYOUTS = {
    "bare": lambda s: s,
    "wrapped": lambda s: {"state_dict": s, "epoch": 3},
    "beside an optimizer": lambda s: {"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}, "model": s},
    "distributed": lambda s: prefixed("module.", s),
    "lightning": lambda s: {"state_dict": prefixed("model.", s), "global_step": 1},
    "lightning in a model": lambda s: {"state_dict": prefixed("model.model.", s)},
    "otx 1": lambda s: {"model": {"state_dict": s}, "VERSION": 1, "labels": ["a", "b"]},
    "averaged": lambda s: {"ema": {"module": s}},
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_is_found(tmp_path: Path, layout, legacy: bool) -> None:
    expected = state()
    torch.save(layout(expected), tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    model = Network()
    report = load_weights(model, tmp_path / "w.pth")
    assert set(report.loaded) == set(expected) and not report.missing
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_what_is_saved_is_read_again_with_its_metadata(tmp_path: Path) -> None:
    model = Network().to(memory_format=torch.channels_last)
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

    monkeypatch.setattr("segdsl.lower.files.save_file", full)
    with pytest.raises(SegError) as caught:
        save_weights(Network(), tmp_path / "w.safetensors", {})
    assert caught.value.diagnostics[0].slug == "weights-not-written"
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("w.safetensors", b"old")]


def test_writing_into_a_missing_folder_is_a_finding(tmp_path: Path) -> None:
    with pytest.raises(SegError) as caught:
        save_weights(Network(), tmp_path / "no" / "w.safetensors", {})
    assert caught.value.diagnostics[0].slug == "weights-not-written"


def test_nested_tensors_are_read_under_dotted_keys(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(1)}, "b": torch.zeros(1), "step": 3}, tmp_path / "w.pth")
    assert list(read_weights(tmp_path / "w.pth")[0]) == ["model.a", "b"]


def test_other_classes_are_an_error_that_names_both_shapes(tmp_path: Path) -> None:
    torch.save(state(5), tmp_path / "w.pth")
    error = error_of(Network(2), tmp_path / "w.pth")
    assert {d.slug for d in error.diagnostics} == {"weights-do-not-fit"}
    assert "`head.weight` is [5, 4, 1, 1] in the file and [2, 4, 1, 1] in the model" in str(error)
    assert "classes" in error.diagnostics[0].help and error.diagnostics[0].path == str(tmp_path / "w.pth")


def test_without_strict_the_head_is_left_out_and_reported(tmp_path: Path) -> None:
    torch.save({"state_dict": prefixed("model.", state(5))}, tmp_path / "w.pth")
    model = Network(2)
    head = model.head.weight.detach().clone()
    report = load_weights(model, tmp_path / "w.pth", strict=False)
    assert report.mismatched == (("head.weight", (5, 4, 1, 1), (2, 4, 1, 1)), ("head.bias", (5,), (2,)))
    assert torch.equal(model.head.weight, head)
    assert torch.equal(model.get_parameter("backbone.0.weight"), state(5)["backbone.0.weight"])


def test_missing_and_left_over_keys_name_the_nearest(tmp_path: Path) -> None:
    tensors = state()
    tensors["heads.weight"] = tensors.pop("head.weight")
    torch.save(tensors, tmp_path / "w.pth")
    error = error_of(Network(), tmp_path / "w.pth")
    found = {d.message: d.help for d in error.diagnostics}
    assert "`heads.weight`" in found["the file has no `head.weight`"]
    assert "`head.weight`, [2, 4, 1, 1]" in found["the model has no `heads.weight`"]
    report = load_weights(Network(), tmp_path / "w.pth", strict=False)
    assert (report.missing, report.unexpected) == (("head.weight",), ("heads.weight",))


def test_a_file_of_something_else_does_not_fit_even_without_strict(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(3)}, tmp_path / "w.pth")
    assert "0 of 9 keys fit" in str(error_of(Network(), tmp_path / "w.pth", strict=False))
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    assert "no `backbone.0.weight`" in str(error_of(Network(), tmp_path / "w.pth", strict=False))


@pytest.mark.parametrize("wrapper", ["", "module.", "model."])
@pytest.mark.parametrize("inner", ["", "backbone."])
def test_a_part_is_filled_from_its_own_file_or_from_a_whole_one(tmp_path: Path, wrapper: str, inner: str) -> None:
    part = {key.removeprefix("backbone."): value for key, value in state().items() if key.startswith("backbone.")}
    others = {"head.fc.weight": torch.ones(3)}
    torch.save(prefixed(wrapper, {**prefixed(inner, part), **others}), tmp_path / "w.pth")
    model = Network(9)
    report = load_weights(model, tmp_path / "w.pth", prefix="backbone")
    assert len(report.loaded) == len(part) and not report.missing
    assert torch.equal(model.get_parameter("backbone.0.weight"), part["0.weight"])


def test_a_part_with_a_missing_key_is_refused(tmp_path: Path) -> None:
    tensors = state()
    del tensors["backbone.0.bias"]
    torch.save(tensors, tmp_path / "w.pth")
    assert "the file has no `backbone.0.bias`" in str(error_of(Network(), tmp_path / "w.pth", prefix="backbone"))


def test_a_part_that_the_model_has_not_is_refused(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "w.pth")
    error = error_of(Network(), tmp_path / "w.pth", prefix="backbon")
    assert "`backbon`" in str(error) and "`backbone`" in error.diagnostics[0].help


def test_files_without_batch_counters_load(tmp_path: Path) -> None:
    torch.save({k: v for k, v in state().items() if not k.endswith("num_batches_tracked")}, tmp_path / "w.pth")
    assert len(load_weights(Network(), tmp_path / "w.pth").loaded) == 8


class Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def saved(content: object, **options: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def safetensors_bytes() -> bytes:
    return safetensors.torch.save(state())


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


OBJECTS = {
    "runs code": lambda target: saved({"state_dict": state(), "x": Hostile(target)}),
    "runs code, old form": lambda target: saved({"x": Hostile(target)}, _use_new_zipfile_serialization=False),
    "whole model": lambda target: saved(nn.Linear(2, 2)),
    "namespace": lambda target: saved({"hyper": argparse.Namespace(lr=1), "state_dict": state()}),
}
DAMAGED = {
    "runs code, bare pickle": lambda target: pickle.dumps(Hostile(target)),
    "one tensor": lambda target: saved(torch.ones(2)),
    "empty": lambda target: b"",
    "text": lambda target: b"<html>not found</html>",
    "cut": lambda target: half(saved(state())),
    "cut short": lambda target: saved(state())[:10],
    "cut, old form": lambda target: half(saved(state(), _use_new_zipfile_serialization=False)),
    "garbage pickle": lambda target: b"\x80\x04garbage",
    "garbage zip": lambda target: b"PK\x03\x04" + bytes(100),
    "cut safetensors": lambda target: safetensors_bytes()[:-7],
    "cut safetensors header": lambda target: safetensors_bytes()[:60],
    "safetensors header that is no JSON": lambda target: (20).to_bytes(8, "little") + b"{" + bytes(40),
}


@pytest.mark.parametrize("kind", [*OBJECTS, *DAMAGED])
def test_a_file_that_is_no_weights_is_unreadable_and_runs_nothing(tmp_path: Path, kind: str, capfd, recwarn) -> None:
    target, path = tmp_path / "ran", tmp_path / "w.pth"
    path.write_bytes({**OBJECTS, **DAMAGED}[kind](target))
    (found,) = error_of(Network(), path).diagnostics
    assert (found.slug, found.path) == ("weights-unreadable", str(path))
    assert ("Python objects" in found.message) == (kind in OBJECTS)
    assert not target.exists()
    assert capfd.readouterr() == ("", "") and not recwarn.list


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pth", tmp_path):
        (found,) = error_of(Network(), path).diagnostics
        assert (found.slug, found.path) == ("weights-missing", str(path))
