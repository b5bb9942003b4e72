"""The label space: declared by masks, changed by programs, and consistent from file to export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from segdsl.cli.invoke import run_cli
from segdsl.data.augment.lazy import read_sample
from segdsl.data.check.checker import check_data
from segdsl.data.check.index import open_index
from segdsl.data.formats.labels import LabelSpace
from segdsl.data.formats.layout import Request, parse_patterns
from segdsl.data.formats.readers.benchmarks import STREET_CLASSES
from segdsl.data.formats.readers.voc import VOC_CLASSES as VOC_CLASSES
from segdsl.diagnostics import SegError
from segdsl.inference.models.model_info import build_model_info
from segdsl.ir.labels import find_label_faults, relabel_classes
from segdsl.ir.values import Range
from segdsl.lang.program import load

PROGRAM = """seg 1

extends "std/semantic.seg"

model Tiny(classes: int) {{
  in image: [B, 3, H, W]

  map = image -> Conv(classes, 3x3)
  out logits = map
}}

model = Tiny(classes = len(data.classes))

data {{
  input_size = 16x16
  {0}
}}
"""
NAMES: tuple[str, ...] = ("road", "traffic light", "Öl, naß", "a_b", "sky", "bus")


@st.composite
def spaces(draw: st.DrawFn) -> tuple[list[str], list[str], list[tuple[list[str], str]]]:
    """Declared classes, some excluded and others merged, with at least two classes left."""
    declared = draw(st.permutations(NAMES).map(lambda p: list(p)))[: draw(st.integers(2, len(NAMES)))]
    free = list(declared)
    exclude = draw(st.lists(st.sampled_from(free), unique=True, max_size=len(free) - 2)) if len(free) > 2 else []
    free = [name for name in free if name not in exclude]
    merges: list[tuple[list[str], str]] = []
    for number in range(draw(st.integers(0, 2))):
        if len(free) < 2:
            break
        names = draw(st.lists(st.sampled_from(free), unique=True, min_size=1, max_size=len(free)))
        free = [name for name in free if name not in names]
        merges.append((names, draw(st.sampled_from([f"new {number}", names[0], *free]))))
        if merges[-1][1] in free:
            free.remove(merges[-1][1])
    return declared, exclude, merges


def meaning(name: str, exclude: list[str], merges: list[tuple[list[str], str]]) -> str | None:
    """The final name of a class, None if it is ignored; computed the slow and obvious way."""
    if name in exclude:
        return None
    return next((into for names, into in merges if name in names), name)


def text(declared: list[str], exclude: list[str], merges: list[tuple[list[str], str]]) -> str:
    words = ", ".join(
        f"Merge({json.dumps(n, ensure_ascii=False)}, into = {json.dumps(i, ensure_ascii=False)})" for n, i in merges
    )
    lists = [
        f"classes = {json.dumps(declared, ensure_ascii=False)}",
        f"exclude = {json.dumps(exclude, ensure_ascii=False)}",
    ]
    return "\n  ".join([*lists, f"remap = [{words}]"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spaces(), st.integers(0, 2**32 - 1), st.sampled_from([255, 200]))
def test_ids_mean_the_same_from_mask_to_export(
    tmp_path_factory: pytest.TempPathFactory, space: tuple, seed: int, ignore: int
) -> None:
    declared, exclude, merges = space
    folder = tmp_path_factory.mktemp("space")
    file = folder / "p.seg"
    file.write_text(PROGRAM.format(text(declared, exclude, merges) + f"\n  ignore = {ignore}"), encoding="utf-8")
    if find_label_faults(declared, ignore, exclude, merges):
        with pytest.raises(SegError):
            load(file)
        return
    raw = np.random.default_rng(seed).integers(0, len(declared), (9, 7), np.uint8)
    raw[0, :3] = ignore
    for kind in ("images", "masks"):
        (folder / "train" / kind).mkdir(parents=True)
    Image.fromarray(np.zeros((9, 7, 3), np.uint8)).save(folder / "train" / "images" / "a.png")
    Image.fromarray(raw).save(folder / "train" / "masks" / "a.png")
    (folder / "train" / "dataset_meta.json").write_text(json.dumps({"labels": declared}), encoding="utf-8")

    program = load(file)
    index = open_index(folder, "common_semantic_segmentation", Request.from_program(program, ["train"]))
    seen = read_sample(index, index.get_subset("train"), 0).mask
    exported = json.loads(build_model_info(program, "openvino", "fp32")["segdsl_classes"])
    assert index.classes == program.classes == tuple(exported)
    (logits,) = program.graph.outputs.values()
    assert program.graph.collect_shapes()[logits][1] == len(exported)
    for value, found in zip(raw.ravel().tolist(), seen.ravel().tolist(), strict=True):
        expected = None if value == ignore else meaning(declared[value], exclude, merges)
        assert (None if found == ignore else exported[found]) == expected


@given(spaces())
def test_label_space_is_independent_of_setting_order(space: tuple) -> None:
    declared, exclude, merges = space
    shuffled = [(names[::-1], into) for names, into in merges[::-1]]
    assert relabel_classes(declared, exclude, merges) == relabel_classes(declared, exclude[::-1], shuffled)


WRONG = [
    (["x"], [], None, 255, ["class-unknown"]),
    ([], [(["rod"], "lane")], None, 255, ["class-unknown"]),
    (["a", "a"], [], None, 255, ["class-moved-twice"]),
    (["a"], [(["a", "b"], "new")], None, 255, ["class-moved-twice"]),
    ([], [(["a"], "new"), (["a"], "newer")], None, 255, ["class-moved-twice"]),
    ([], [(["a"], "b"), (["b"], "c")], None, 255, ["class-moved-twice"]),
    (["b"], [(["a"], "b")], None, 255, ["class-moved-twice"]),
    (["a"], [], None, 1, ["ignore-is-class"]),
    (["a", "b"], [], None, 255, ["too-few-classes"]),
    ([], [(["a", "b"], "c")], None, 255, ["too-few-classes"]),
    ([], [], [Range(0, 0)], 255, ["values-count"]),
    ([], [], [Range(0, 9), Range(9, 20), Range(30, 30)], 255, ["values-overlap"]),
]  # fmt: skip


@pytest.mark.parametrize(("exclude", "merges", "values", "ignore", "slugs"), WRONG, ids=lambda v: str(v)[:30])
def test_ambiguous_relabeling_is_rejected(exclude: list, merges: list, values: list, ignore: int, slugs: list) -> None:
    assert [f.slug for f in find_label_faults(["a", "b", "c"], ignore, exclude, merges, values)] == slugs


def test_swapped_names_do_not_chain() -> None:
    assert find_label_faults(["a", "b", "c"], 255, [], [(["a"], "a")]) == []
    assert relabel_classes(["a", "b", "c"], [], [(["b"], "z")]).classes == ("a", "z", "c")


def test_values_are_mapped_by_range() -> None:
    space = LabelSpace(("ground", "object")).relabel(200, (), (), [Range(0, 127), Range(128, 255)])
    assert space.value_to_id[:128] == (0,) * 128
    assert space.value_to_id[128:] == (1,) * 128, "a value that is listed is no void"
    assert LabelSpace(("a", "b")).relabel(7, (), (), [Range(0, 0), Range(255, 255)]).value_to_id[7] == 255


def grey_set(root: Path, values: tuple[int, ...], names: tuple[str, str] = ("im", "gt")) -> None:
    for subset in ("train", "val"):
        for name in names:
            (root / subset / name).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(root / subset / names[0] / "a.jpg")
        mask = np.resize(np.array(values, np.uint8), (4, 6))
        Image.fromarray(mask).save(root / subset / names[1] / "a.png")


def test_masks_of_0_and_255_in_folders_of_other_names(tmp_path: Path) -> None:
    grey_set(tmp_path, (0, 255, 255))
    asked = Request(
        ["train"], 254, ("ground", "object"), values=[Range(0, 0), Range(255, 255)], patterns=parse_patterns("im", "gt")
    )
    report = check_data(tmp_path, "folders", asked)
    assert [d.slug for d in report.errors] == []
    assert report.pixels["train"][[0, 1]].tolist() == [8, 16]
    grey_set(tmp_path / "soft", (0, 9, 255))
    (error,) = check_data(tmp_path / "soft", "folders", asked).errors
    assert (error.slug, Path(error.path or "").name) == ("mask-value-out-of-range", "a.png")
    missing = check_data(tmp_path, "folders", asked._replace(patterns=parse_patterns("img", "gt"))).errors
    assert [d.slug for d in missing] == ["data-folder-missing"]


def test_class_named_void_suggests_exclude(tree: Path) -> None:
    for meta in tree.glob("*/dataset_meta.json"):
        meta.write_text('{"labels": ["road", "car", "Void"]}', encoding="utf-8")
    asked = Request(["train", "val"])
    assert "class-looks-void" in [d.slug for d in check_data(tree, request=asked).warnings]
    report = check_data(tree, request=asked._replace(exclude=["Void"]))
    assert [d.slug for d in report.warnings] == []
    assert report.classes == ("road", "car")
    assert report.pixels["train"][2] == 0


def test_data_check_accepts_a_program(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tree.parent / "p.seg"
    file.write_text(PROGRAM.format('root = "set"\n  exclude = ["sky"]'), encoding="utf-8")
    assert run_cli(["data", "check", str(file), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["classes"] == ["road", "car"]
    assert run_cli(["data", "check", str(file), "--set", 'data.exclude=["skye"]']) == 1
    assert "did you mean `sky`?" in capsys.readouterr().err
    assert run_cli(["data", "check", str(file), "--ignore", "3"]) == 2
    assert run_cli(["data", "check", str(tree), "--data", str(tree)]) == 2


def test_colors_are_looked_up_once(tree: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colors = np.array([(128, 64, 128), (0, 0, 142), (70, 130, 180)], np.uint8)
    drawn = np.random.default_rng(0).integers(0, 3, (24, 32), np.uint8)
    Image.fromarray(colors[drawn]).save(tree / "train" / "masks" / "a.png")
    index = open_index(tree, "common_semantic_segmentation", Request(["train"]))
    first = [read_sample(index, index.get_subset("train"), k).mask for k in range(3)]
    kept = list((own_cache / "masks" / "colors").rglob("*.png"))
    assert len(kept) == 1, "index masks are not converted"
    monkeypatch.setattr("segdsl.data.decode.masks._map_colors", None)
    again = [read_sample(index, index.get_subset("train"), k).mask for k in range(3)]
    assert (first[0] == drawn).all()
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    kept[0].write_bytes(kept[0].read_bytes()[:40])
    monkeypatch.undo()
    monkeypatch.setenv("SEGDSL_CACHE", str(own_cache))
    assert (read_sample(index, index.get_subset("train"), 0).mask == drawn).all(), "a damaged copy is made again"


PRESET = """seg 1

extends "std/{0}.seg"
import "std/lite_hrnet.seg"

model = LiteHRNetS(classes = len(data.classes))
"""


@pytest.mark.parametrize(
    ("preset", "classes"),
    [("cityscapes", STREET_CLASSES), ("kitti", STREET_CLASSES), ("voc2012", VOC_CLASSES), ("dis5k", None)],
)
def test_preset_matches_its_dataset(preset: str, classes: tuple | None, tmp_path: Path) -> None:
    (tmp_path / "p.seg").write_text(PRESET.format(preset), encoding="utf-8")
    program = load(tmp_path / "p.seg")
    assert program.warnings == ()
    assert program.classes == (classes or ("background", "object"))
    assert program.graph.collect_shapes()[program.graph.outputs["logits"]][1] == len(program.classes)


def test_dis5k_preset_reads_its_folders(tmp_path: Path) -> None:
    for subset in ("DIS-TR", "DIS-VD"):
        grey_set(tmp_path / "set" / subset, (0, 127, 128, 255))
        for part in ("im", "gt"):
            (tmp_path / "set" / subset / "train" / part).rename(tmp_path / "set" / subset / part)
    (tmp_path / "p.seg").write_text(PRESET.format("dis5k") + 'data.root = "set"\n', encoding="utf-8")
    program = load(tmp_path / "p.seg")
    report = check_data(tmp_path / "set", program.data.format, Request.from_program(program, ["DIS-TR", "DIS-VD"]))
    assert report.errors == []
    assert report.pixels["DIS-VD"][:2].tolist() == [12, 12]
