"""How others call and wrap the tensors that a model here has: the one table of rules, and what else a file tells."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Layout(NamedTuple):
    """A way to name tensors. A file is of it if a key matches ``sign``; ``renames`` are tried in their order at the
    beginning of each part of a key, the first that fits is made. Keys that end in an element of ``joined`` before their
    last part are one tensor in several pieces, one above the other."""

    name: str
    sign: str
    renames: tuple[tuple[str, str], ...]
    joined: tuple[str, ...] = ()


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

CLASSIFIER = "the classifier of its pre-training"
SPARE = (
    (r"(^|\.)mask_token$", "stands for hidden patches, in pre-training only"),
    (r"(^|\.)(head|fc|classifier|cls_head)\.(.+\.)?(weight|bias)$", CLASSIFIER),
)
"""Keys that files have beside a model's, and why they are of no use to it."""
DROPPED = (("OTX 1", r"ham\.bases$", "OTX 1 stores one draw of it, and the model draws it anew"),)
"""Keys that a kind of file has and that are not to be taken from it."""


def renamed(layout: Layout, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file of this layout under the keys that the published models have."""
    found: dict[str, Tensor] = {}
    pieces: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        key = _renamed_key(layout, key)
        head, _, leaf = key.rpartition(".")
        base, _, piece = head.rpartition(".")
        if piece in layout.joined:
            pieces.setdefault(f"{base}.{leaf}", {})[piece] = value
        else:
            found[key] = value
    for key, parts in pieces.items():
        if len(parts) == len(layout.joined) and len({part.shape[1:] for part in parts.values()}) == 1:
            found[key] = torch.cat([parts[piece] for piece in layout.joined])
        else:
            found |= {f"{key.rpartition('.')[0]}.{piece}.{key.rpartition('.')[2]}": v for piece, v in parts.items()}
    return found


def _renamed_key(layout: Layout, key: str) -> str:
    for pattern, written in layout.renames:
        new, count = re.subn(rf"(?:(?<=\.)|^){pattern}", written, key, count=1)
        if count:
            return new
    return key


def layouts_of(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every way to name the tensors of a file: as they are, and by each layout whose sign is among them."""
    yield "", dict(tensors)
    for layout in LAYOUTS:
        sign = re.compile(rf"(?:(?<=\.)|^){layout.sign}")
        if any(sign.search(key) for key in tensors):
            yield layout.name, renamed(layout, tensors)


def kind_of(content: Mapping[str, Any], metadata: Mapping[str, str]) -> str:
    """What wrote a file, as far as it says so."""
    if "program" in metadata or "monitor" in metadata:
        return "segdsl"
    if isinstance(content.get("otx_version"), str):
        return f"OTX {content['otx_version'][:12]}"
    if isinstance(content.get("VERSION"), int) and isinstance(content.get("model"), dict):
        return "OTX 1"
    if _below(content, ("hyper_parameters", "label_info")) is not None:
        return "OTX 2"
    if "pytorch-lightning_version" in content:
        return "Lightning"
    return ""


def why_dropped(kind: str, key: str) -> str:
    """Why a key of a file of this kind is not taken; empty where it is."""
    return next((why for name, sign, why in DROPPED if kind == name and re.search(sign, key)), "")


def why_spare(key: str) -> str:
    """Why a model needs no such key; empty where that is not known."""
    return next((why for sign, why in SPARE if re.search(sign, key)), "")


def class_names(content: Mapping[str, Any], metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the classes that a file was trained with, in their order; none where it does not say."""
    found: Any = None
    if "classes" in metadata:
        try:
            found = json.loads(metadata["classes"])
        except (ValueError, RecursionError):
            return ()
    for path in (
        ("hyper_parameters", "label_info", "label_names"),
        ("labels",),
        ("meta", "dataset_meta", "classes"),
        ("meta", "CLASSES"),
    ):
        found = _below(content, path) if found is None else found
    names = tuple(found) if isinstance(found, (list, tuple, dict)) else ()
    names = tuple("background" if name == "otx_background_lbl" else name for name in names)
    return names if all(isinstance(name, str) for name in names) and len(set(names)) == len(names) else ()


def _below(content: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        content = dict.get(content, name) if isinstance(content, dict) else None
    return content
