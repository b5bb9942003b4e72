"""Loading the tensors of a file into a model: wrappers, prefixes, and files that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from segdsl.diagnostics import SegError
from segdsl.weights.load import load_checkpoint, load_weights


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


def error_of(model: nn.Module, path: Path, load: Callable[..., object] = load_weights, **options: str) -> SegError:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(SegError) as caught:
        load(model, path, **options)
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
    assert set(report.keys_loaded) == set(expected)
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_other_classes_without_a_graph_are_an_error_with_both_shapes(tmp_path: Path) -> None:
    torch.save(state(5), tmp_path / "w.pth")
    error = error_of(Network(2), tmp_path / "w.pth")
    assert {d.slug for d in error.diagnostics} == {"weights-do-not-fit"}
    assert error.diagnostics[0].help and error.diagnostics[0].path == str(tmp_path / "w.pth")
    assert all(text in str(error) for text in ("`head.weight`", "[5, 4, 1, 1]", "[2, 4, 1, 1]"))


def test_missing_and_extra_keys_name_the_closest_key(tmp_path: Path) -> None:
    tensors = state()
    tensors["heads.weight"] = tensors.pop("head.weight")
    torch.save(tensors, tmp_path / "w.pth")
    error = error_of(Network(), tmp_path / "w.pth", load_checkpoint)
    found = {d.message: d.help for d in error.diagnostics}
    (missing,) = [help for message, help in found.items() if "`head.weight` [2, 4, 1, 1]" in message]
    (extra,) = [help for message, help in found.items() if "`heads.weight` [2, 4, 1, 1]" in message]
    assert "`heads.weight`" in missing and "`head.weight` [2, 4, 1, 1]" in extra


def test_extra_tensors_in_a_file_are_left_out_and_reported(tmp_path: Path) -> None:
    torch.save({**state(), "auxiliary.weight": torch.ones(2), "head.fc.bias": torch.ones(2)}, tmp_path / "w.pth")
    report = load_weights(Network(), tmp_path / "w.pth")
    assert [finding.keys for finding in report.select_findings("left out")] == [
        ("auxiliary.weight",),
        ("head.fc.bias",),
    ]
    error_of(Network(), tmp_path / "w.pth", load_checkpoint)


def test_extra_layers_in_a_part_make_the_file_doubtful(tmp_path: Path) -> None:
    torch.save({**state(), "backbone.2.weight": torch.ones(2)}, tmp_path / "w.pth")
    (found,) = load_weights(Network(), tmp_path / "w.pth").findings
    assert (found.outcome, found.keys) == ("doubtful", ("backbone.2.weight",))


def test_the_file_of_one_part_names_the_part(tmp_path: Path) -> None:
    part = {key: value for key, value in state().items() if key.startswith("backbone.")}
    torch.save(part, tmp_path / "w.pth")
    (found,) = error_of(Network(), tmp_path / "w.pth").diagnostics
    assert "`backbone`" in found.message and 'weights { backbone = "…" }' in found.help


def test_the_averaged_copy_of_a_model_is_loaded(tmp_path: Path) -> None:
    averaged = {key: value + 1 for key, value in state().items()}
    files = {
        "ema beside": {"state_dict": state(), "ema": averaged},
        "teacher": {"model": {**prefixed("student.", state()), **prefixed("teacher.", averaged)}},
    }
    for content in files.values():
        torch.save(content, tmp_path / "w.pth")
        model = Network()
        load_weights(model, tmp_path / "w.pth")
        assert torch.equal(model.head.weight, averaged["head.weight"])


def test_two_matches_with_different_values_are_rejected(tmp_path: Path) -> None:
    other = {key: value + 1 for key, value in state().items()}
    torch.save({**prefixed("online.", state()), **prefixed("target.", other)}, tmp_path / "w.pth")
    (found,) = error_of(Network(), tmp_path / "w.pth").diagnostics
    assert found.slug == "weights-do-not-fit" and "`online`, `target`" in found.message
    torch.save({"state_dict": state(), "model": state()}, tmp_path / "w.pth")
    assert load_weights(Network(), tmp_path / "w.pth").keys_loaded, "twice the same is no matter"


@pytest.mark.parametrize("prefix", ["net.student.", "_orig_mod.", "a.b.c.d.", "module.model.segmentor."])
def test_any_prefix_is_found(tmp_path: Path, prefix: str) -> None:
    torch.save(prefixed(prefix, {**state(), "other.weight": torch.ones(1)}), tmp_path / "w.pth")
    report = load_weights(Network(), tmp_path / "w.pth")
    assert (report.prefix, len(report.keys_loaded)) == (prefix, len(state()))


@pytest.mark.parametrize("spoiled", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_rejected(tmp_path: Path, spoiled: float) -> None:
    tensors = state()
    tensors["head.bias"][1] = spoiled
    torch.save(tensors, tmp_path / "w.pth")
    (found,) = error_of(Network(), tmp_path / "w.pth").diagnostics
    assert found.slug == "weights-unreadable" and "`head.bias`" in found.message


def test_half_precision_is_loaded_and_integers_are_rejected(tmp_path: Path) -> None:
    torch.save({key: value.half() if value.is_floating_point() else value for key, value in state().items()},
               tmp_path / "w.pth")  # fmt: skip
    model = Network()
    assert len(load_weights(model, tmp_path / "w.pth").keys_loaded) == 9
    assert torch.allclose(model.head.weight, state()["head.weight"], atol=1e-3)
    torch.save({**state(), "head.bias": torch.ones(2, dtype=torch.int32)}, tmp_path / "w.pth")
    assert "int32" in str(error_of(Network(), tmp_path / "w.pth"))


def test_an_unrelated_file_does_not_fit(tmp_path: Path, wording) -> None:
    for number, content in enumerate(({"x": torch.ones(3)}, {"epoch": 3})):
        torch.save(content, tmp_path / "w.pth")
        error = error_of(Network(), tmp_path / "w.pth")
        assert {found.slug for found in error.diagnostics} == {"weights-do-not-fit"}
        wording("\n".join(f"{found.message}\n{found.help}" for found in error.diagnostics), str(number))


@pytest.mark.parametrize("wrapper", ["", "module.", "model."])
@pytest.mark.parametrize("inner", ["", "backbone."])
def test_a_part_is_filled_from_its_own_file_or_from_a_whole_one(tmp_path: Path, wrapper: str, inner: str) -> None:
    part = {key.removeprefix("backbone."): value for key, value in state().items() if key.startswith("backbone.")}
    others = {"head.fc.weight": torch.ones(3)}
    torch.save(prefixed(wrapper, {**prefixed(inner, part), **others}), tmp_path / "w.pth")
    model = Network(9)
    report = load_weights(model, tmp_path / "w.pth", part="backbone")
    assert len(report.keys_loaded) == len(part)
    assert torch.equal(model.get_parameter("backbone.0.weight"), part["0.weight"])


def test_a_part_with_a_missing_key_is_rejected(tmp_path: Path) -> None:
    tensors = state()
    del tensors["backbone.0.bias"]
    torch.save(tensors, tmp_path / "w.pth")
    assert "`backbone.0.bias`" in str(error_of(Network(), tmp_path / "w.pth", part="backbone"))


def test_an_unknown_part_is_rejected(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "w.pth")
    error = error_of(Network(), tmp_path / "w.pth", part="backbon")
    assert "`backbon`" in str(error) and "`backbone`" in error.diagnostics[0].help


def test_files_without_batch_counters_load(tmp_path: Path) -> None:
    torch.save({k: v for k, v in state().items() if not k.endswith("num_batches_tracked")}, tmp_path / "w.pth")
    assert len(load_weights(Network(), tmp_path / "w.pth").keys_loaded) == 8
