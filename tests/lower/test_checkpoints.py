"""Files of every layout, written from the published key lists: they load into the right model, and it gives the
logits of the reference."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from segdsl.diagnostics import SegError
from segdsl.lang.program import load
from segdsl.lower.compiled import CompileResult, compile_program
from segdsl.weights.load import load_weights
from segdsl.words.published import PUBLIC_WEIGHTS

TOLERANCE = 1e-4
"""Of the golden's standard deviation, for every logit."""
SIZES = {"dinov2-small-seg": (70, 70)}
SIZE, CLASSES = (64, 64), 5
NAMES = ("sky", "building", "pole", "road", "car")
Tensors = dict[str, Tensor]


def published_tensors(published: Any) -> Tensors:
    """The tensors of a trained model under the published keys, filled by the reference's rule."""
    return published.tensors(CLASSES, SIZES.get(published.name, SIZE))


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + key: value for key, value in tensors.items()}


def backbone(tensors: Tensors) -> Tensors:
    return {key.removeprefix("backbone."): value for key, value in tensors.items() if key.startswith("backbone.")}


def assert_golden(published: Any, compiled: CompileResult) -> None:
    size = SIZES.get(published.name, SIZE)
    with torch.no_grad():
        got = compiled.model.eval()(published.image(size))["decode_head.conv_seg"].numpy()
    golden = published.arrays[f"pre_nc{CLASSES}_{size[0]}x{size[1]}"]
    assert abs(got - golden).max() < TOLERANCE * golden.std()


def compiled_with(published: Any, *overrides: str, weights: str | None = None) -> CompileResult:
    """The program with class names, its own `weights` replaced, and the classifier's logits as an output."""
    size = SIZES.get(published.name, SIZE)
    settings = [f"data.input_size={size[0]}x{size[1]}", f"data.classes={json.dumps(list(NAMES))}"]
    program = load(published.spec, [*settings, "drop weights.backbone", *overrides])
    return compile_program(program, weights, outputs=("decode_head.conv_seg",))


def of_otx(version: str, prefix: str) -> Callable[[Tensors, Path, Any], None]:
    def write(tensors: Tensors, path: Path, otx_task: Any) -> None:
        with otx_task("otx.types.task") as task:
            label_info = {"label_names": list(NAMES), "label_ids": [str(i) for i in range(CLASSES)],
                          "label_groups": [list(NAMES)], "ignore_index": 255}  # fmt: skip
            content = {
                "epoch": 3, "global_step": 12, "pytorch-lightning_version": "2.4.0",
                "state_dict": prefixed(prefix, tensors), "loops": {}, "callbacks": {},
                "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}], "lr_schedulers": [],
                "hparams_name": "kwargs", "otx_version": version,
                "hyper_parameters": {"task": task, "model_name": "m", "label_info": label_info},
            }  # fmt: skip
            torch.save(content, path)

    return write


def of_otx_1(tensors: Tensors, path: Path, otx_task: Any) -> None:
    # Whatever it stores as the bases of a factorisation must not be taken over.
    spoiled = {key: value * 0 - 7 if key.endswith("ham.bases") else value for key, value in tensors.items()}
    labels = dict.fromkeys(NAMES, (0, 0, 0))
    torch.save({"model": {"state_dict": spoiled}, "config": {}, "labels": labels, "VERSION": 1}, path)


def of_segdsl(tensors: Tensors, path: Path, otx_task: Any) -> None:
    save_file(tensors, path, {"classes": json.dumps(NAMES), "monitor": "val.dice"})


WHOLE = {
    "OTX 2.6": of_otx("2.6.0", "model."),
    "OTX 2.1": of_otx("2.1.0", "model.model."),
    "OTX 1": of_otx_1,
    "segdsl": of_segdsl,
    "distributed": lambda tensors, path, otx_task: torch.save({"state_dict": prefixed("module.", tensors)}, path),
}


SMALL = ("lite_hrnet_s", "segnext_tiny", "dinov2-small-seg")
"""The models that are loaded in every layout by the quick tests; the slow ones load the others."""


def quick_or_slow(model: str, *values: str) -> Any:
    return pytest.param(model, *values, marks=() if model in SMALL else pytest.mark.slow)


@pytest.mark.parametrize(
    ("published", "layout"),
    [quick_or_slow(model, layout) for model in PUBLIC_WEIGHTS for layout in WHOLE],
    indirect=["published"],
)
def test_a_trained_model_of_each_layout_gives_the_goldens(
    published: Any, layout: str, tmp_path: Path, otx_task: Any
) -> None:
    tensors = published_tensors(published)
    WHOLE[layout](tensors, tmp_path / "w.ckpt", otx_task)
    compiled = compiled_with(published, weights=str(tmp_path / "w.ckpt"))
    (report,) = compiled.load_reports
    assert report.kind == {"OTX 2.6": "OTX 2.6.0", "OTX 2.1": "OTX 2.1.0", "distributed": ""}.get(layout, layout)
    kept = [key for finding in report.select_findings("kept") for key in finding.keys]
    assert kept == [key for key in tensors if layout == "OTX 1" and key.endswith("ham.bases")]
    for key in kept:
        compiled.model.get_parameter(key).data.copy_(tensors[key])
    ordered = report.select_findings("carried")
    assert len(ordered) == (not report.kind)
    assert len(report.keys_loaded) == len(tensors) - len(kept) and report.findings == (
        *report.select_findings("kept"),
        *ordered,
    )
    assert_golden(published, compiled)


def plain(tensors: Tensors) -> dict[str, Any]:
    return dict(tensors)


def with_classifier(tensors: Tensors) -> dict[str, Any]:
    return {**tensors, "head.weight": torch.ones(1000, 8), "head.bias": torch.ones(1000)}


def of_otx_hub(tensors: Tensors) -> dict[str, Any]:
    return {"state_dict": {**prefixed("backbone.", tensors), "classifier.fc.weight": torch.ones(1000, 8)}}


def of_mscan_authors(tensors: Tensors) -> dict[str, Any]:
    assert any(".dwconv.weight" in key for key in tensors)
    return {"state_dict": with_classifier({re.sub(r"\.dwconv\.", ".dwconv.dwconv.", k): v for k, v in tensors.items()})}


def of_meta(tensors: Tensors) -> dict[str, Any]:
    return {**tensors, "mask_token": torch.ones(1, 384)}


def of_meta_training(tensors: Tensors) -> dict[str, Any]:
    chunked = {
        re.sub(r"^blocks\.(\d+)\.", lambda m: f"blocks.{int(m[1]) // 6}.{m[1]}.", k): v for k, v in tensors.items()
    }
    student = {key: value + 1 for key, value in chunked.items()}
    return {"model": {**prefixed("student.backbone.", student), **prefixed("teacher.backbone.", chunked)}}


def of_hugging_face(tensors: Tensors) -> dict[str, Any]:
    """The names of `Dinov2Model` in transformers."""
    found: Tensors = {"embeddings.mask_token": torch.ones(1, 384)}
    names = {
        "cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings", "norm.": "layernorm.",
        "patch_embed.proj.": "embeddings.patch_embeddings.projection.",
    }  # fmt: skip
    inner = {"attn.proj": "attention.output.dense", "ls1.gamma": "layer_scale1.lambda1",
             "ls2.gamma": "layer_scale2.lambda1"}  # fmt: skip
    for key, value in tensors.items():
        block = re.fullmatch(r"blocks\.(\d+)\.(.*)", key)
        if block and block[2].startswith("attn.qkv."):
            for name, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                leaf = block[2].rpartition(".")[2]
                found[f"encoder.layer.{block[1]}.attention.attention.{name}.{leaf}"] = piece.contiguous()
        elif block:
            rest = block[2]
            for ours, theirs in inner.items():
                rest = rest.replace(ours, theirs)
            found[f"encoder.layer.{block[1]}.{rest}"] = value
        else:
            start = next(name for name in names if key.startswith(name))
            found[names[start] + key.removeprefix(start)] = value
    assert len(found) == len(tensors) + 1 + 2 * 24
    return found


BACKBONES = {
    "lite_hrnet": {"OTX's": of_otx_hub, "bare": plain, "with a classifier": with_classifier},
    "segnext": {"OpenMMLab's": with_classifier, "its authors'": of_mscan_authors,
                "wrapped": lambda t: {"state_dict": dict(t)}},
    "dinov2": {
        "Meta's": of_meta, "Meta's training": of_meta_training, "timm's": plain,
        "Hugging Face's": of_hugging_face,
        "Hugging Face's classifier": lambda t: {**prefixed("dinov2.", of_hugging_face(t)),
                                                "classifier.weight": torch.ones(10, 384)},
    },
}  # fmt: skip
MODELS = {
    "lite_hrnet": ("lite_hrnet_s", "lite_hrnet_18", "lite_hrnet_x"),
    "segnext": ("segnext_tiny", "segnext_small", "segnext_base"),
    "dinov2": ("dinov2-small-seg",),
}
CASES = [
    # The larger models are read in the first layout of their family; the slow tests read them in the others too.
    pytest.param(model, family, layout, marks=() if model in SMALL or index == 0 else pytest.mark.slow)
    for family, models in MODELS.items()
    for model in models
    for index, layout in enumerate(BACKBONES[family])
]


@pytest.mark.parametrize(("published", "family", "layout"), CASES, indirect=["published"])
def test_a_published_backbone_of_each_layout_gives_the_goldens(
    published: Any, family: str, layout: str, tmp_path: Path
) -> None:
    tensors = published_tensors(published)
    torch.save(BACKBONES[family][layout](backbone(tensors)), tmp_path / "w.pth")
    compiled = compiled_with(published, f'weights.backbone="{tmp_path}/w.pth"')
    (report,) = compiled.load_reports
    assert len(report.keys_loaded) == report.total == len(backbone(tensors))
    assert set(compiled.find_random_parts()) == {"decode_head"}
    head = {key: value for key, value in tensors.items() if not key.startswith("backbone.")}
    assert not compiled.model.load_state_dict(head, strict=False).unexpected_keys
    assert_golden(published, compiled)


def test_the_key_lists_of_the_published_files_are_those_of_the_backbones(published: Any) -> None:
    """Where the reference lists a file's keys, its model has each of them but those that are known to be spare."""
    file = json.loads((published.reference / "keys" / f"{published.name}.json").read_text())["published_pretrained"]
    bare = {key: list(value.shape) for key, value in backbone(published_tensors(published)).items()}
    assert file.get("backbone_keys", len(bare)) == len(bare)
    listed = {key: shape for key, shape, _ in file.get("keys_without_prefix", [])}
    if listed:
        assert {key for key in listed if key not in bare} == {"mask_token"}
        assert set(bare) <= set(listed)


def test_a_trained_model_fills_a_backbone_alone(published: Any, tmp_path: Path, otx_task: Any) -> None:
    tensors = published_tensors(published)
    WHOLE["OTX 2.6"](tensors, tmp_path / "w.ckpt", otx_task)
    compiled = compiled_with(published, f'weights.backbone="{tmp_path}/w.ckpt"')
    (report,) = compiled.load_reports
    (left,) = report.findings
    assert report.prefix == "model.backbone." and "`backbone`" in left.reason
    assert all(key.startswith("model.decode_head.") for key in left.keys)


def test_every_named_part_is_filled_by_its_own_tensors(published: Any, tmp_path: Path, otx_task: Any) -> None:
    """From a file of the whole model, and of the backbone alone: parts that are shaped alike are told apart."""
    tensors = published_tensors(published)
    parts = {".".join(key.split(".")[:depth]) for key in tensors for depth in range(1, key.count(".") + 1)}
    named = sorted(part for part in parts if not re.search(r"\.\d", part))
    model = compiled_with(published, weights="none").model
    files = {"whole": prefixed("model.", tensors), "backbone": backbone(tensors)}
    for file, content in files.items():
        save_file(content, tmp_path / "w.safetensors")
        for part in named if published.name in SMALL else named[:3]:
            if file == "backbone" and not part.startswith("backbone"):
                continue
            for value in model.state_dict().values():
                value.zero_()
            report = load_weights(model, tmp_path / "w.safetensors", part=part)
            assert len(report.keys_loaded) == report.total > 0
            assert all(
                torch.equal(value, tensors[key])
                for key, value in model.state_dict().items()
                if key in report.keys_loaded
            )


def test_a_file_of_another_model_is_refused(published: Any, tmp_path: Path) -> None:
    """Each model's backbone against the program of another: no file is taken for one that it is not."""
    others = {"lite_hrnet_s": "litehrnet_x", "lite_hrnet_18": "litehrnet_s", "lite_hrnet_x": "litehrnet_18",
              "segnext_tiny": "segnext_s", "segnext_small": "segnext_b", "segnext_base": "segnext_t",
              "dinov2-small-seg": "segnext_t"}  # fmt: skip
    torch.save(backbone(published_tensors(published)), tmp_path / "w.pth")
    file = published.spec.with_name(f"{others[published.name]}.seg")
    program = load(file, [f'weights.backbone="{tmp_path}/w.pth"'])
    with pytest.raises(SegError) as caught:
        compile_program(program)
    assert {d.slug for d in caught.value.diagnostics} == {"weights-do-not-fit"}
    assert len(caught.value.diagnostics) > 1
