"""Finding and opening models: a run folder, or an exported file, whose extension selects its exporter word."""

from __future__ import annotations

import importlib
from pathlib import Path

from segdsl.diagnostics import fail
from segdsl.inference.models.model import Model, RuntimeModel
from segdsl.inference.models.model_info import EXPORT_FOLDER, ModelInfo
from segdsl.inference.models.openvino_runtime import Hint
from segdsl.words.exports import OpenVINO, find_format, list_formats


def open_model(path: str | Path, hint: Hint = "f32", device: str = "auto") -> Model:
    """Open a run folder, an exported model, or a folder with a single `.xml`.

    ``device`` is the device for a run (`auto`, `cpu`, `cuda`, …); exported models run on the CPU only. With ``hint`` =
    "device", an OpenVINO model computes in the precision that the device prefers: faster, but no longer equal to
    PyTorch. Raises SegError (`device-not-here`, and the errors of finding and opening the file or the run).
    """
    path = Path(path)
    if path.is_dir() and ((path / "program.seg").exists() or not any(path.glob(f"*{OpenVINO.suffix}"))):
        # Imported late: exported models must open without torch.
        from segdsl.inference.models.torch_model import open_run_model

        return open_run_model(path, device)
    file = find_exported_file(path)
    if device not in ("auto", "cpu"):
        message = f"exported models run on the CPU only, not on `{device}`"
        raise fail("device-not-here", message, "remove `--device`, or pass the run folder", path=str(path))
    return _find_runtime(file).open_file(file, hint)


def read_model_info(path: str | Path) -> ModelInfo:
    """Read the metadata of the exported model at ``path``. Raises SegError as opening it does."""
    file = find_exported_file(Path(path))
    return _find_runtime(file).read_info(file)


def find_exported_file(path: Path) -> Path:
    """Return the exported model at ``path``: that file, or the only `.xml` in that folder (such as `RUN/export`).

    Raises SegError (`model-not-found`, `model-kind-unknown`, `model-ambiguous`).
    """
    if not path.exists():
        raise fail("model-not-found", f"`{path}` does not exist", format_path_help(), path=str(path))
    if path.is_dir():
        return _find_exported_in(path)
    if find_format(path.suffix) is None:
        message = f"`{path.name}` is not a model that segdsl can open"
        raise fail("model-kind-unknown", message, _suggest_model_path(path), path=str(path))
    return path


def format_path_help() -> str:
    """Return the help on what can be opened: a run folder, or a file with the extension of a format."""
    *others, last = dict.fromkeys(f"`{word.suffix}`" for word in list_formats())
    suffixes = f"{', '.join(others)} or {last}" if others else last
    return f"pass a run folder, or an exported {suffixes} file"


def _find_runtime(file: Path) -> type[RuntimeModel]:
    """Return the class that runs the file of an exported model."""
    word = find_format(file.suffix)
    assert word is not None
    module, name = word.runtime.split(":")
    # Imported when a file of the format is opened: the word itself belongs to the front half, which is free of numpy.
    return getattr(importlib.import_module(module), name)


def _find_exported_in(folder: Path) -> Path:
    found = sorted(folder.glob(f"*{OpenVINO.suffix}"))
    if not found:
        below = sorted((folder / EXPORT_FOLDER).glob(f"*{OpenVINO.suffix}"))
        help = f"pass a model file, such as `{below[0]}`" if below else "write one with `segdsl export RUN`"
        raise fail("model-not-found", f"`{folder}` contains no exported model", help, path=str(folder))
    if len(found) > 1:
        names = ", ".join(f"`{p.name}`" for p in found)
        message = f"`{folder}` contains {len(found)} exported models: {names}"
        raise fail("model-ambiguous", message, f"pass one of them, such as `{found[0]}`", path=str(folder))
    return found[0]


def _suggest_model_path(path: Path) -> str:
    owners = [word for word in list_formats() if path.suffix in word.companions]
    owner = next((file for word in owners if (file := path.with_suffix(word.suffix)).is_file()), None)
    if owner is not None:
        return f"pass the `{owner.suffix}` file next to it: `{owner}`"
    if path.suffix == ".safetensors":
        return "pass the run folder that contains it"
    if path.suffix == ".seg":
        return f"train it with `segdsl train {path}`, then pass the new run folder"
    return format_path_help()
