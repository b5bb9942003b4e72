"""Layouts of published weights files: rules that rename their keys, and the facts that a file states about itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segdsl.text.json import parse_json


class Layout(NamedTuple):
    """A naming scheme for tensors. A file uses it if one of its keys matches the pattern ``signature``.

    ``renames`` are pairs of a pattern and a replacement. They are tried in order at the beginning of each part of a
    key, and only the first match is applied. Keys whose second to last part is one of ``piece_names`` are pieces of one
    tensor, which are concatenated along the first dimension.
    """

    name: str
    signature: str
    renames: tuple[tuple[str, str], ...]
    piece_names: tuple[str, ...] = ()


LAYOUTS = (
    Layout(
        "Hugging Face's DINOv2",
        r"embeddings\.patch_embeddings\.projection\.weight$",
        (
            (r"embeddings\.cls_token$", r"cls_token"),
            (r"embeddings\.mask_token$", r"mask_token"),
            (r"embeddings\.register_tokens$", r"register_tokens"),
            (r"embeddings\.position_embeddings$", r"pos_embed"),
            (r"embeddings\.patch_embeddings\.projection\.", r"patch_embed.proj."),
            (r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.", r"blocks.\1.attn.qkv.\2."),
            (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
            (r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1$", r"blocks.\1.ls\2.gamma"),
            (r"encoder\.layer\.(\d+)\.", r"blocks.\1."),
            (r"layernorm\.", r"norm."),
        ),
        ("query", "key", "value"),
    ),
    Layout("MSCAN as its authors saved it", r"dwconv\.dwconv\.", ((r"dwconv\.dwconv\.", r"dwconv."),)),
    Layout("DINOv2 in chunks of blocks", r"blocks\.\d+\.\d+\.norm1\.", ((r"blocks\.\d+\.(\d+)\.", r"blocks.\1."),)),
)

CLASSIFIER_REASON = "the classifier of its pretraining"
# Keys that files contain in addition to those of a model, and why the model does not need them.
SPARE_RULES = (
    (r"(^|\.)mask_token$", "replaces masked patches, in pretraining only"),
    (r"(^|\.)(head|fc|classifier|cls_head)\.(.+\.)?(weight|bias)$", CLASSIFIER_REASON),
)
# Keys that must not be loaded from files of a certain kind.
DROP_RULES = (("OTX 1", r"ham\.bases$", "OTX 1 stores one random sample of it, and the model samples it anew"),)


def rename_keys(layout: Layout, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file of this layout under the keys of the published models."""
    found: dict[str, Tensor] = {}
    pieces: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        key = _rename_key(layout, key)
        head, _, leaf = key.rpartition(".")
        base, _, piece = head.rpartition(".")
        if piece in layout.piece_names:
            pieces.setdefault(f"{base}.{leaf}", {})[piece] = value
        else:
            found[key] = value
    for key, parts in pieces.items():
        # Pieces that do not belong together keep their keys, so that they are reported as they are in the file.
        if len(parts) == len(layout.piece_names) and len({part.shape[1:] for part in parts.values()}) == 1:
            found[key] = torch.cat([parts[piece] for piece in layout.piece_names])
        else:
            found |= {f"{key.rpartition('.')[0]}.{piece}.{key.rpartition('.')[2]}": v for piece, v in parts.items()}
    return found


def _rename_key(layout: Layout, key: str) -> str:
    for pattern, written in layout.renames:
        new, count = re.subn(rf"(?:(?<=\.)|^){pattern}", written, key, count=1)
        if count:
            return new
    return key


def iterate_layouts(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the layout name and renamed tensors for each possible layout of a file, first the unchanged keys ("")."""
    yield "", dict(tensors)
    for layout in LAYOUTS:
        sign = re.compile(rf"(?:(?<=\.)|^){layout.signature}")
        if any(sign.search(key) for key in tensors):
            yield layout.name, rename_keys(layout, tensors)


def detect_file_kind(content: Mapping[str, Any], metadata: Mapping[str, str]) -> str:
    """Return the tool that wrote a file, or an empty string if the file does not say."""
    # All values come from an untrusted file: types are checked before use, and text is truncated.
    if "program" in metadata or "monitor" in metadata:
        return "segdsl"
    if isinstance(content.get("otx_version"), str):
        return f"OTX {content['otx_version'][:12]}"
    if isinstance(content.get("VERSION"), int) and isinstance(content.get("model"), dict):
        return "OTX 1"
    if _get_nested(content, ("hyper_parameters", "label_info")) is not None:
        return "OTX 2"
    if "pytorch-lightning_version" in content:
        return "Lightning"
    return ""


def find_drop_reason(kind: str, key: str) -> str:
    """Return why a key of a file of this kind must not be loaded, or an empty string."""
    return next((why for name, sign, why in DROP_RULES if kind == name and re.search(sign, key)), "")


def find_spare_reason(key: str) -> str:
    """Return why a model does not need this key, or an empty string if it is not known."""
    return next((why for sign, why in SPARE_RULES if re.search(sign, key)), "")


def read_class_names(content: Mapping[str, Any], metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return the class names that a file was trained with, in order; empty if the file does not state them."""
    found: Any = None
    if "classes" in metadata:
        try:
            found = parse_json(metadata["classes"])
        except ValueError:
            return ()
    # OTX 2, OTX 1, MMEngine and MMCV, in this order.
    for path in (
        ("hyper_parameters", "label_info", "label_names"),
        ("labels",),
        ("meta", "dataset_meta", "classes"),
        ("meta", "CLASSES"),
    ):
        found = _get_nested(content, path) if found is None else found
    names = tuple(found) if isinstance(found, (list, tuple, dict)) else ()
    # OTX 2 adds the background under a reserved name.
    names = tuple("background" if name == "otx_background_lbl" else name for name in names)
    return names if all(isinstance(name, str) for name in names) and len(set(names)) == len(names) else ()


def _get_nested(content: Any, path: tuple[str, ...]) -> Any:
    # `dict.get`, because an unpickled dictionary can have an attribute `get` that is no method.
    for name in path:
        content = dict.get(content, name) if isinstance(content, dict) else None
    return content
