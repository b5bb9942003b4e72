"""The commands for weights, and the table of loaded weights: goldens in `tests/goldens/weights`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from segdsl.cli.invoke import run_cli
from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program
from segdsl.words.published import PUBLIC_WEIGHTS

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests" / "goldens" / "weights"
PROGRAM = """seg 1

block Backbone(wide: int) {
  in image: [B, C, H, W]

  conv = image -> Conv(wide, 3x3)
  norm = conv -> BatchNorm()
  out y = norm -> ReLU()
}

model Net(classes: int, in_channels: int = 3, wide: int = 4) {
  in image: [B, in_channels, H, W]

  backbone = image -> Backbone(wide)
  head     = backbone -> Conv(classes) -> BatchNorm()
  out logits: [B, classes, H, W] = head
}

data {
  classes    = ["background", "crack", "stain"]
  input_size = 32x48
}

model = Net(classes = len(data.classes))
"""
NAMES = ("background", "crack", "stain")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """A folder with the program, where the command runs."""
    (tmp_path / "net.seg").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def state(*overrides: str, classes: int = 3) -> dict[str, Tensor]:
    """The tensors of the program's model with that many classes, each a count of its own."""
    program = load("net.seg", [*overrides, "drop data.classes"], classes)
    model = compile_program(program, "none").model.state_dict()
    return {key: torch.arange(value.numel()).view(value.shape).to(value.dtype) for key, value in model.items()}


def named(*names: str) -> dict[str, str]:
    return {"classes": json.dumps(names), "monitor": "val.dice"}


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in tensors.items()}


def part(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix("backbone."): value for key, value in tensors.items() if key.startswith("backbone.")}


def other_number() -> list[str]:
    save_file(state(classes=5), "w.safetensors")
    return ['weights.model="w.safetensors"']


def some_names() -> list[str]:
    save_file(state(classes=4), "w.safetensors", named("background", "dent", "stain", "hole"))
    return ['weights.model="w.safetensors"']


def other_order() -> list[str]:
    save_file(state(), "w.safetensors", named("stain", "background", "crack"))
    return ['weights.model="w.safetensors"']


def other_names() -> list[str]:
    save_file(state(), "w.safetensors", named("sky", "road", "car"))
    return ['weights.model="w.safetensors"']


def same_names() -> list[str]:
    save_file(state(), "w.safetensors", named(*NAMES))
    return ['weights.model="w.safetensors"']


def otx_without_background() -> list[str]:
    content = {"state_dict": prefixed("model.", state()), "otx_version": "2.6.0",
               "hyper_parameters": {"label_info": {"label_names": ["stain", "crack"]}}}  # fmt: skip
    torch.save(content, "w.ckpt")
    return ['weights.model="w.ckpt"']


def whole_into_part() -> list[str]:
    torch.save({"state_dict": prefixed("model.", state()), "otx_version": "2.6.0"}, "w.ckpt")
    return ['weights.backbone="w.ckpt"']


def published() -> list[str]:
    extra = {"mask_token": torch.ones(4), "head.fc.weight": torch.ones(9, 4), "head.fc.bias": torch.ones(9)}
    torch.save({**part(state()), **extra}, "w.pth")
    return ['weights.backbone="w.pth"']


def deeper() -> list[str]:
    more = {f"norm.{i}.{leaf}": torch.ones(4) for i in range(6) for leaf in ("weight", "bias")}
    torch.save({**part(state()), **more, "neck.conv.weight": torch.ones(1)}, "w.pth")
    return ['weights.backbone="w.pth"']


def grey() -> list[str]:
    torch.save(part(state()), "w.pth")
    return ['weights.backbone="w.pth"', "model.in_channels=1", "weights.adapt=true"]


def two_sources() -> list[str]:
    save_file(state(), "w.safetensors", named(*NAMES))
    torch.save(part(state()), "w.pth")
    return ['weights.backbone="w.pth"', 'weights.model="w.safetensors"']


def grey_without_a_word() -> list[str]:
    torch.save(part(state()), "w.pth")
    return ['weights.backbone="w.pth"', "model.in_channels=4"]


def part_as_whole() -> list[str]:
    torch.save(part(state()), "w.pth")
    return ['weights.model="w.pth"']


def wider() -> list[str]:
    save_file(state("model.wide=6"), "w.safetensors", named(*NAMES))
    return ['weights.model="w.safetensors"']


def nothing() -> list[str]:
    torch.save({"module.layer1.0.conv.weight": torch.ones(4, 3, 3, 3), "module.fc.bias": torch.ones(2)}, "w.pth")
    return ['weights.backbone="w.pth"']


def no_tensors() -> list[str]:
    torch.save({"epoch": 3}, "w.pth")
    return ['weights.backbone="w.pth"']


LOADED: dict[str, Callable[[], list[str]]] = {
    f.__name__: f for f in (other_number, some_names, other_order, other_names, same_names, otx_without_background,
                            whole_into_part, published, deeper, grey, two_sources)
}  # fmt: skip
REFUSED: dict[str, Callable[[], list[str]]] = {
    f.__name__: f for f in (grey_without_a_word, part_as_whole, wider, nothing, no_tensors)
}


def check(overrides: list[str]) -> int:
    return run_cli(["weights", "check", "net.seg", *(text for setting in overrides for text in ("--set", setting))])


@pytest.mark.parametrize("case", [*LOADED, *REFUSED])
def test_the_table_of_loaded_weights(folder: Path, case: str, golden: Any, capsys: pytest.CaptureFixture[str]) -> None:
    status = check({**LOADED, **REFUSED}[case]())
    out, err = capsys.readouterr()
    assert status == (1 if case in REFUSED else 0) and bool(out) == (case in LOADED)
    assert all(len(line) <= 120 for line in out.splitlines())
    golden(GOLDENS / f"{case}.txt", re.sub(r"SHA-256 [0-9a-f]{12}", "SHA-256 0123456789ab", out + err))


def test_every_golden_belongs_to_a_test() -> None:
    assert {path.stem for path in GOLDENS.iterdir()} == {*LOADED, *REFUSED}


def loaded(*overrides: str) -> dict[str, Tensor]:
    return compile_program(load("net.seg", overrides)).model.state_dict()


@pytest.mark.parametrize(
    ("case", "rows"),
    [(some_names, [0, None, 2]), (other_order, [1, 2, 0]), (same_names, [0, 1, 2]), (other_names, [None] * 3),
     (otx_without_background, [0, 2, 1]), (other_number, [None] * 3)],
)  # fmt: skip
def test_rows_are_matched_by_class(folder: Path, case: Any, rows: list[int | None]) -> None:
    settings = case()
    torch.manual_seed(3)
    fresh = compile_program(load("net.seg")).model.state_dict()
    torch.manual_seed(3)
    got = loaded(*settings)
    theirs = state(classes={"some_names": 4, "other_number": 5}.get(case.__name__, 3))
    for key in ("head.0.weight", "head.0.bias", "head.1.weight", "head.1.running_var"):
        for row, source in enumerate(rows):
            assert torch.equal(got[key][row], fresh[key][row] if source is None else theirs[key][source]), (key, row)
    assert torch.equal(got["backbone.conv.weight"], theirs["backbone.conv.weight"])


@pytest.mark.parametrize(
    ("spec", "channels"),
    [
        pytest.param(spec, channels, marks=() if channels in quick else pytest.mark.slow)
        for spec, quick in (("segnext_t", (1, 4)), ("litehrnet_s", (2,)), ("dinov2", (7,)))
        for channels in (1, 2, 4, 5, 7)
    ],
)
def test_an_image_of_equal_channels_gives_the_same_logits(tmp_path: Path, spec: str, channels: int) -> None:
    file = ROOT / "specs" / f"{spec}.seg"
    size = "data.input_size=70x98" if spec == "dinov2" else "data.input_size=64x96"
    torch.manual_seed(0)
    colour = compile_program(load(file, [size]), "none").model.eval()
    torch.save(colour.state_dict(), tmp_path / "w.pth")
    settings = [size, "drop weights.backbone", f'weights.model="{tmp_path}/w.pth"', "weights.adapt=true"]
    built = compile_program(load(file, [*settings, f"model.in_channels={channels}"]))
    (report,) = built.load_reports
    (found,) = report.select_findings("adapted")
    assert str(channels) in found.reason and len(found.keys) == 1
    grey = torch.randn(2, 1, *map(int, size.partition("=")[2].split("x")))
    with torch.no_grad():
        expected, got = colour(grey.repeat(1, 3, 1, 1)), built.model.eval()(grey.repeat(1, channels, 1, 1))
    torch.testing.assert_close(got, expected, atol=1e-4 * float(expected.std()), rtol=0)


def test_only_filters_over_the_image_are_adapted(folder: Path) -> None:
    """Nothing is adapted that does not look at the image, and nothing without being asked for."""
    tensors = state()
    tensors["head.0.weight"] = tensors["head.0.weight"][:, :2]
    save_file({key: value.contiguous() for key, value in tensors.items()}, "w.safetensors")
    assert check(['weights.model="w.safetensors"', "weights.adapt=true"]) == 1


def published_file(name: str, folder: Path) -> bytes:
    """A file such as the one that is published, of the model's own tensors."""
    spec = {"dinov2-small-seg": "dinov2", "segnext_tiny": "segnext_t", "segnext_small": "segnext_s",
            "segnext_base": "segnext_b"}.get(name, name.replace("lite_hrnet", "litehrnet"))  # fmt: skip
    model = compile_program(load(ROOT / "specs" / f"{spec}.seg"), "none").model
    torch.save({"state_dict": part(model.state_dict())}, folder / "w.pth")
    return (folder / "w.pth").read_bytes()


def test_the_published_entries_match_the_reference() -> None:
    keys = ROOT.parent / "shared" / "reference" / "keys"
    if not keys.is_dir():
        pytest.skip("the shared folder with the reference's lists is not there")
    urls = {path.stem: json.loads(path.read_text())["published_pretrained"]["url"] for path in keys.glob("*.json")}
    assert urls == {name: entry.url for name, entry in PUBLIC_WEIGHTS.items()}


QUICK = ("lite_hrnet_s", "segnext_tiny", "dinov2-small-seg")
"""One of each architecture; the slow tests fetch all."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in PUBLIC_WEIGHTS]
)
def test_every_published_entry_resolves(
    name: str, server: Any, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    content = published_file(name, tmp_path)
    digest = hashlib.sha256(content).hexdigest()
    entry = PUBLIC_WEIGHTS[name]
    server.answers(
        lambda h: h.serve(content) if h.path == "/files/" + entry.url.rpartition("/")[2] else h.send(b"", 404)
    )
    monkeypatch.setenv("SEGDSL_MIRROR", f"{server.url}/files/")
    if entry.sha256:
        assert run_cli(["weights", "fetch", f"otx:{name}"]) == 1, "the file is not the published one"
        assert "error[weights-changed]" in capsys.readouterr().err
        monkeypatch.setitem(PUBLIC_WEIGHTS, name, entry._replace(sha256=digest[:8]))
    (spec,) = [p for p in (ROOT / "specs").glob("*.seg") if f'"otx:{name}"' in p.read_text()]
    assert run_cli(["weights", "check", str(spec), "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)["weights"]
    assert report["loaded"] == report["wanted"] > 100 and report["sha256"] == digest and report["part"] == entry.fills
    assert run_cli(["weights", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["weights"]
    assert [e["source"] for e in listed if e["cached"]] == [f"otx:{name}"]


def test_check_reads_the_classes_from_the_dataset(folder: Path, capsys) -> None:
    some_names()
    nameless = PROGRAM.replace('classes    = ["background", "crack", "stain"]\n  ', 'root       = "set"\n  ')
    Path("net.seg").write_text(nameless)
    assert run_cli(["weights", "check", "net.seg", "--set", 'weights.model="w.safetensors"']) == 0
    out = capsys.readouterr().out
    assert "left out: `head.0" in out
    for root in ("set", "other"):
        for subset in ("train", "val"):
            for kind in ("images", "masks"):
                Path(root, subset, kind).mkdir(parents=True)
            names = {"0": "background", "1": "dent" if root == "set" else "hole", "2": "rust"}
            Path(root, subset, "dataset_meta.json").write_text(json.dumps({"label_map": names}))
            image = numpy.zeros((8, 8, 3), numpy.uint8)
            Image.fromarray(image).save(Path(root, subset, "images", "a.png"))
            Image.fromarray(image[..., 0]).save(Path(root, subset, "masks", "a.png"))
    assert run_cli(["weights", "check", "net.seg", "--set", 'weights.model="w.safetensors"']) == 0
    assert "`background`, `dent`; random: `rust`" in " ".join(capsys.readouterr().out.split())
    assert run_cli(["weights", "check", "net.seg", "--data", "other", "--set", 'weights.model="w.safetensors"']) == 0
    assert "`background`, `hole`; random: `rust`" in " ".join(capsys.readouterr().out.split())


REMEDIES = {
    "lite_hrnet_S": "`otx:lite_hrnet_s`",
    "run": "`run/checkpoints/best.safetensors`",
    "run/checkpoints": "`run/checkpoints/best.safetensors`",
    "run/checkpoints/best.ckpt": "`run/checkpoints/best.safetensors`",
    "mscan.pht": "`mscan.pth`",
    "mscan.pth#sha256=00000000": "`#sha256=…`",
    "facebook/dinov2-small": "`hf://facebook/dinov2-small/model.safetensors`",
    "nothing.bin": "= help: ",
}


@pytest.mark.parametrize("source", REMEDIES)
def test_a_missing_file_gets_a_suggestion(folder: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/checkpoints/best.safetensors").touch()
    Path("mscan.pth").touch()
    assert check([f'weights.backbone="{source}"']) == 1
    err = capsys.readouterr().err
    assert "error[weights-missing]" in err and REMEDIES[source] in err


def test_fetch_accepts_sources_and_programs(server: Any, folder: Path, weights_file: bytes, capsys) -> None:
    server.answers(lambda h: h.serve(weights_file))
    program = PROGRAM + f'\nweights {{\n  backbone = "{server.url}/a.pth"\n}}\n'
    (folder / "with.seg").write_text(program)
    assert run_cli(["weights", "fetch", "with.seg", f"{server.url}/b.pth", "--json"]) == 0
    fetched = json.loads(capsys.readouterr().out)["fetched"]
    assert list(fetched) == [f"{server.url}/a.pth", f"{server.url}/b.pth"]
    assert all(Path(entry["file"]).read_bytes() == weights_file for entry in fetched.values())
    assert run_cli(["weights", "fetch", "net.seg"]) == 0
    assert run_cli(["weights", "fetch", "lite_hrnet"]) == 1
    assert "error[weights-missing]" in capsys.readouterr().err
