"""Malformed and hostile files: their tensors are loaded correctly, or the file is rejected with a reason."""

from __future__ import annotations

import io
import json
import pickle
import re
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from segdsl.cli.invoke import run_cli

PROGRAM = """seg 1

block Twins() {
  in x: [B, C, H, W]

  a = x -> Conv(C, 1x1)
  b = a -> Conv(C, 1x1)
  out y = b
}

model Net(classes: int, in_channels: int = 3) {
  in image: [B, in_channels, H, W]

  stem = image -> Conv(4, 3x3)
  body = stem -> Twins()
  more = body -> Twins()
  head = more -> Conv(classes)
  out logits: [B, classes, H, W] = head
}

data.classes    = ["background", "crack"]
data.input_size = 16x16

model = Net(classes = len(data.classes))
"""
LAYERS = {"stem": (4, 3, 3, 3), "body.a": (4, 4, 1, 1), "body.b": (4, 4, 1, 1), "more.a": (4, 4, 1, 1),
          "more.b": (4, 4, 1, 1), "head": (2, 4, 1, 1)}  # fmt: skip
Tensors = dict[str, Tensor]


def state(start: float = 1.0, classes: int = 2) -> Tensors:
    """The tensors of the program's model, each layer with a number of its own."""
    found: Tensors = {}
    for number, (layer, shape) in enumerate(LAYERS.items()):
        shape = (classes, *shape[1:]) if layer == "head" else shape
        found[f"{layer}.weight"] = torch.full(shape, float(start + number))
        found[f"{layer}.bias"] = torch.full(shape[:1], float(start + number))
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """A folder with the program, where the command runs."""
    (tmp_path / "net.seg").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(part: str, *overrides: str, file: str = "w.pth") -> dict[str, float]:
    """The number of each layer after a part was filled from the file; 0 where it was not."""
    from segdsl.lang.program import load as load_program
    from segdsl.lower.compiled import compile_program

    model = compile_program(load_program("net.seg", [f'weights.{part}="{file}"', *overrides])).model
    found = {}
    for layer in LAYERS:
        value = model.get_parameter(f"{layer}.bias")
        same = bool((value == value[0]).all())
        found[layer] = float(value[0]) if same and float(value[0]).is_integer() else 0.0
    return {layer: number for layer, number in found.items() if number}


def check(part: str, *overrides: str, file: str = "w.pth") -> int:
    settings = [f'weights.{part}="{file}"', *overrides]
    return run_cli(["weights", "check", "net.seg", *(text for setting in settings for text in ("--set", setting))])


@pytest.mark.parametrize("prefix", ["", "model.", "module.model."])
def test_layers_of_equal_shape_are_distinguished(folder: Path, prefix: str) -> None:
    torch.save({prefix + key: value for key, value in state().items()}, "w.pth")
    numbers = {layer: float(number) for number, layer in enumerate(LAYERS, 1)}
    for part in ("body.a", "body.b", "more.a", "more.b", "body", "more", "head", "stem"):
        wanted = {layer: n for layer, n in numbers.items() if f"{layer}.".startswith(f"{part}.")}
        assert load(part) == wanted, part
    assert load("model") == numbers


def test_an_ambiguous_file_is_rejected(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({f"x.{n}.{leaf}": torch.full(s, float(n)) for n in range(3) for leaf, s in
                (("weight", (4, 4, 1, 1)), ("bias", (4,)))}, "w.pth")  # fmt: skip
    assert check("body.a") == 1
    err = capsys.readouterr().err
    assert "error[weights-do-not-fit]" in err and all(f"`x.{number}`" in err for number in range(3))


COPIES: dict[str, tuple[Any, float, str]] = {
    "average second": ({"state_dict": state(1), "ema": state(2)}, 2, "`ema`"),
    "average first": ({"ema": {"module": state(2)}, "state_dict": state(1)}, 2, "`ema.module`"),
    "timm's average": ({"state_dict": state(1), "state_dict_ema": state(2)}, 2, "`state_dict_ema`"),
    "moments of an optimizer": ({"optimizer": {"exp_avg": state(2)}, "model": state(1)}, 1, ""),
    "average of an optimizer": ({"optimizer": {"ema": state(2)}, "state_dict": state(1)}, 1, ""),
    "states of optimizers": ({"optimizer_states": {"0": state(2)}, "state_dict": state(1)}, 1, ""),
}


@pytest.mark.parametrize("case", COPIES)
def test_the_right_one_of_several_copies_is_loaded_and_named(folder: Path, case: str, capsys) -> None:
    content, number, origin = COPIES[case]
    torch.save(content, "w.pth")
    assert load("model")["stem"] == number
    assert check("model") == 0
    assert origin in " ".join(capsys.readouterr().out.split())


def test_the_state_of_an_optimizer_is_not_a_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({f"exp_avg:{key}": value for key, value in state().items()}, "w.pth")
    for part in ("stem", "model"):
        assert check(part) == 1
        assert "error[weights-do-not-fit]" in capsys.readouterr().err


NOT_FINITE: dict[str, tuple[Callable[[], Tensors], list[str]]] = {
    "as it is": (lambda: {**state(), "stem.bias": torch.full((4,), float("nan"))}, []),
    "in a row that is carried": (lambda: {**state(), "head.bias": torch.tensor([float("inf"), 1.0])},
                                 ['data.classes=["crack", "background"]']),
    "in a stem that is adapted": (lambda: {**state(), "stem.weight": torch.full((4, 3, 3, 3), float("nan"))},
                                  ["model.in_channels=1", "weights.adapt=true"]),
    "beyond the model's numbers": (lambda: {**state(), "stem.bias": torch.full((4,), 1e300, dtype=torch.float64)}, []),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_FINITE)
def test_values_that_are_not_finite_are_rejected(folder: Path, case: str, capsys) -> None:
    make, overrides = NOT_FINITE[case]
    save_file(make(), "w.safetensors", {"classes": json.dumps(["background", "crack"])})
    assert check("model", *overrides, file="w.safetensors") == 1
    assert "error[weights-unreadable]" in capsys.readouterr().err


def nested_tensor() -> Any:
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


class Twisted(OrderedDict[str, Any]):
    """Pickles as an ordinary dictionary whose `items` is a string."""

    def __reduce__(self) -> Any:
        return OrderedDict, (list(dict.items(self)),), {"items": "no function"}


def cyclic() -> dict[str, Any]:
    content: dict[str, Any] = {"state_dict": state()}
    content["self"] = content["state_dict"]["again"] = content
    return content


ODD: dict[str, Callable[[], Any]] = {
    "labels as a tensor": lambda: {**state(), "labels": torch.zeros(7)},
    "names as a tensor": lambda: {"state_dict": state(), "meta": {"CLASSES": torch.zeros(2)}},
    "names of several kinds": lambda: {"state_dict": state(), "labels": ["a", 3]},
    "names twice": lambda: {"state_dict": state(), "labels": ["a", "a"]},
    "a version as a tensor": lambda: {"model": {"state_dict": state()}, "VERSION": torch.ones(2)},
    "settings as a number": lambda: {"state_dict": state(), "hyper_parameters": 3},
    "a dictionary with a broken method": lambda: Twisted(state()),
    "a dictionary in itself": cyclic,
    "keys that are no strings": lambda: {**state(), 3: torch.ones(1), (1, 2): torch.ones(1), None: 4},
    "a nested tensor beside": lambda: {**state(), "x": nested_tensor()},
    "a view of another": lambda: {**state(), "x": torch.ones(9)[::2], "y": torch.ones(1).expand(1 << 40)},
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_other_content_besides_tensors_is_ignored(folder: Path, case: str) -> None:
    torch.save(ODD[case](), "w.pth")
    assert load("model")["body.b"] == 3


REFUSED: dict[str, Callable[[], Any]] = {
    "nested": lambda: {**state(), "stem.bias": nested_tensor()},
    "sparse": lambda: {**state(), "stem.bias": torch.ones(4).to_sparse()},
    "without values": lambda: {**state(), "stem.bias": torch.ones(4, device="meta")},
    "complex": lambda: {**state(), "stem.bias": torch.ones(4, dtype=torch.complex64)},
    "quantized": lambda: {**state(), "stem.bias": torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)},
    "without channels": lambda: {**state(), "stem.weight": torch.ones(4, 0, 3, 3)},
    "a scalar": lambda: {**state(), "head.bias": torch.tensor(1.0), "head.weight": torch.tensor(1.0)},
    "no rows": lambda: {**state(), "head.bias": torch.ones(0), "head.weight": torch.ones(0, 4, 1, 1)},
    "rows of two numbers": lambda: {**state(), "head.bias": torch.ones(5)},
    "two copies, one without values": lambda: {"a": state(), "b": {k: v.to("meta") for k, v in state().items()}},
}


@pytest.mark.parametrize("case", REFUSED)
def test_tensors_that_cannot_be_copied_are_rejected(folder: Path, case: str, capsys) -> None:
    torch.save(REFUSED[case](), "w.pth")
    assert check("model", "weights.adapt=true") == 1
    assert re.match(r"error\[weights-(unreadable|do-not-fit)\]: ", capsys.readouterr().err)


def test_low_precision_dtypes_are_loaded(folder: Path) -> None:
    for kind in (torch.float8_e4m3fn, torch.bfloat16, torch.float16, torch.float64):
        save_file({key: value.to(kind) for key, value in state().items()}, "w.safetensors")
        assert load("model", file="w.safetensors")["more.b"] == 5


def test_a_classifier_without_class_names_is_left_out(folder: Path, capsys) -> None:
    save_file(state(classes=1), "w.safetensors")
    assert check("model", file="w.safetensors") == 0
    out = capsys.readouterr().out
    assert "left out: `head.{weight, bias}`: " in out and "1 class," in out


def test_a_file_without_a_tensor_to_load_says_why(folder: Path, capsys, wording) -> None:
    save_file(state(classes=5), "w.safetensors")
    assert check("head", file="w.safetensors") == 1
    wording(capsys.readouterr().err)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "3", '{"a": 1}', "[1, 2]"])
def test_invalid_class_names_are_ignored(folder: Path, text: str) -> None:
    save_file(state(), "w.safetensors", {"classes": text})
    assert load("model", file="w.safetensors")["stem"] == 1


def test_control_characters_in_a_file_do_not_reach_the_terminal(folder: Path, capsys) -> None:
    evil = "\x1b[2J\x1b]0;pwned\x07\u202e"
    content = {"otx_version": f"2{evil}", "hyper_parameters": {"label_info": {"label_names": [f"a{evil}", "crack"]}}}
    torch.save({**content, "state_dict": {**state(), f"{evil}.weight": torch.ones(1), "k" * 2_000_000: torch.ones(1)}},
               "w.pth")  # fmt: skip
    assert check("model") == 0
    out = capsys.readouterr().out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", out) and len(out) < 3000
    assert run_cli(["compile", "net.seg", "--weights", "w.pth"]) == 0
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", capsys.readouterr().out)


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def with_pickle(body: bytes) -> bytes:
    """A PyTorch file whose content is this pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(state()))) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, body if name.endswith("data.pkl") else old.read(name))
    return buffer.getvalue()


def shared_dictionaries(width: int) -> dict[str, Any]:
    """A small file in which a dictionary can be reached in ``width`` cubed ways."""
    inner: dict[str, Any] = dict(state())
    for _ in range(3):
        inner = {str(number): inner for number in range(width)}
    return inner


SLOW: dict[str, Callable[[], bytes]] = {
    "a long name of a class": lambda: with_pickle(b"\x80\x02c" + b"a" * 1_000_000 + b"\nb\n."),
    "absurd lengths": lambda: b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b"abc.",
    "an absurd string": lambda: b"\x80\x04\x8d" + (1 << 60).to_bytes(8, "little") + b"abc.",
    "deep": lambda: with_pickle(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."),
    "keys of many names": lambda: saved({**state(), **{"." * 5000 + str(n): torch.ones(1) for n in range(300)}}),
    "shared dictionaries": lambda: saved(shared_dictionaries(150)),
    "memo": lambda: with_pickle(b"\x80\x02}q\x00" + b"h\x00" * 100_000 + b"."),
}


@pytest.mark.parametrize("case", SLOW)
def test_a_small_hostile_file_is_read_quickly(folder: Path, case: str, capsys) -> None:
    Path("w.pth").write_bytes(SLOW[case]())
    begin = time.process_time()
    assert check("model") in (0, 1)
    assert time.process_time() - begin < 10
    assert "internal-error" not in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(40))
def test_a_changed_byte_is_reported_or_harmless(folder: Path, seed: int, capsys) -> None:
    """Of the directory of a zip file, of its pickle, of a file of the old form, of safetensors."""
    torch.manual_seed(seed)
    files = [saved(state()), with_pickle(pickle.dumps({"x": 1}, 2))]
    old = io.BytesIO()
    torch.save(state(), old, _use_new_zipfile_serialization=False)
    save_file(state(), "s.safetensors")
    files += [old.getvalue(), Path("s.safetensors").read_bytes()]
    for content in files:
        changed = bytearray(content)
        first = max(content.rfind(b"PK\x01\x02"), 0) if seed % 2 else 0
        place = first + int(torch.randint(len(content) - first, (1,)))
        changed[place] = int(torch.randint(256, (1,)))
        Path("w.pth").write_bytes(changed)
        assert check("model") in (0, 1)
        assert "internal-error" not in capsys.readouterr().err
