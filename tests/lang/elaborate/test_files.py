"""Files: imports, aliases, extends, project roots, cycles; unreadable files; libraries and recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segdsl.diagnostics import SegError
from segdsl.lang.program import check_file, load

HEAD = "seg 1\n\nblock Head(classes: int) {\n  in x\n\n  out y = x -> Conv(classes, bias = false)\n}\n"
USE = """
model Net(classes: int) {
  in image: [B, 3, H, W]

  head = image -> HEAD(classes)
  out logits = head
}

model = Net(classes = len(data.classes))
"""


def using(head: str, *imports: str) -> str:
    lines = "".join(f"import {i}\n" for i in imports)
    return f'seg 1\n\nextends "std/semantic.seg"\n{lines}{USE.replace("HEAD", head)}'


def test_an_import_brings_the_blocks_of_a_file(bench: Any) -> None:
    bench.write(HEAD, "parts/head.seg")
    bench.write('seg 1\n\nimport "head.seg"\n', "parts/more.seg")
    assert list(bench.program(using("Head", '"parts/head.seg"')).graph.collect_state()) == ["head.weight"]
    assert list(bench.program(using("h.Head", '"parts/head.seg" as h')).graph.collect_state()) == ["head.weight"]
    errors = bench.errors(using("Head", '"parts/more.seg"'))
    assert [d.slug for d in errors] == ["unknown-component"]


def test_the_same_file_by_two_ways_is_one(bench: Any) -> None:
    bench.write(HEAD, "head.seg")
    bench.write('seg 1\n\nimport "../head.seg"\n', "parts/more.seg")
    bench.write("", "pyproject.toml")
    assert bench.errors(using("Head", '"head.seg"', '"./head.seg"', '"parts/more.seg"')) == []


def test_two_components_of_one_name(bench: Any) -> None:
    bench.write(HEAD, "a.seg")
    bench.write(HEAD, "b.seg")
    errors = bench.errors(using("Head", '"a.seg"', '"b.seg"'))
    assert [d.slug for d in errors] == ["import-ambiguous"]
    assert bench.errors(using("Head", '"a.seg"', '"b.seg" as b')) == []
    errors = bench.errors(using("Head", '"a.seg" as n', '"b.seg" as n'))
    assert [d.slug for d in errors] == ["rebinding"]
    assert bench.said(errors[0]) == "n"


def test_lets_stay_in_their_file(bench: Any) -> None:
    bench.write("seg 1\n\nlet width = 7\n\n" + HEAD[7:].replace("Conv(classes", "Conv(width"), "head.seg")
    text = using("Head", '"head.seg"').replace(
        "head = image -> Head(classes)", "a = image -> Head(1)\n  head = a -> Conv(classes)"
    )
    assert bench.program(text).graph.collect_state()["a.weight"].shape[0] == 7
    errors = bench.errors(text.replace("-> Conv(classes)", "-> Conv(width)"))
    assert [d.slug for d in errors] == ["unknown-name"]


def test_errors_of_an_imported_block_say_who_built_it(bench: Any) -> None:
    bench.write(HEAD.replace("bias", "bais"), "head.seg")
    (error,) = bench.errors(using("Head", '"head.seg"'))
    assert (error.slug, error.span.file) == ("unknown-argument", str(bench.folder / "head.seg"))
    (label,) = error.labels
    assert "`Head`" in label.text


def test_circles(bench: Any) -> None:
    bench.write('seg 1\n\nimport "b.seg"\n', "a.seg")
    bench.write('seg 1\n\nimport "a.seg"\n', "b.seg")
    (error,) = bench.errors(using("Head", '"a.seg"'))
    assert error.slug == "import-cycle"
    assert error.message.endswith("a.seg -> " + str(bench.folder / "b.seg") + " -> " + str(bench.folder / "a.seg"))
    (error,) = bench.errors('seg 1\n\nextends "main.seg"\n')
    assert error.slug == "import-cycle"


def test_the_root_of_a_project(bench: Any) -> None:
    bench.write(HEAD, "head.seg")
    inner = bench.write(using("Head", '"../head.seg"'), "specs/main.seg")
    with pytest.raises(SegError) as caught:
        check_file(inner)
    assert [d.slug for d in caught.value.diagnostics] == ["import-outside-root"]
    bench.write("", "pyproject.toml")
    assert check_file(inner)[0] is not None


@pytest.mark.parametrize(
    ("path", "slug", "help"),
    [
        ("hed.seg", "import-missing", "`head.seg`"),
        ("std/lite_hrnt.seg", "import-missing", "`std/lite_hrnet.seg`"),
        ("std/../lang/program.py", "import-missing", None),
        ("/etc/hostname", "import-outside-root", None),
        ("../other.seg", "import-outside-root", None),
        ("", "import-missing", None),
        (".", "import-missing", None),
        ("x" * 5000, "import-missing", None),
        ("timm:resnet18", "reserved-feature", None),
        ("py:my.module", "reserved-feature", None),
    ],
)
def test_imports_that_fail_are_the_only_error(bench: Any, path: str, slug: str, help: str | None) -> None:
    bench.write(HEAD, "head.seg")
    (error,) = bench.errors(using("Heading", f'"{path}"'))
    assert error.slug == slug
    assert bench.said(error) == f'"{path}"'
    assert help is None or help in error.help


def test_a_syntax_error_in_an_import_hides_what_follows_from_it(bench: Any) -> None:
    bench.write(HEAD.replace("block Head(", "block Head)"), "head.seg")
    errors = bench.errors(using("Head", '"head.seg"'))
    assert errors
    assert {d.span.file for d in errors} == {str(bench.folder / "head.seg")}


@pytest.mark.parametrize(
    ("content", "slug"),
    [(None, "file-missing"), (b"\xff\xfe", "file-unreadable"), (b" " * (5 << 20), "file-unreadable")],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None, slug: str) -> None:
    path = tmp_path / "main.seg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SegError) as caught:
        load(path)
    (error,) = caught.value.diagnostics
    assert (error.slug, error.path) == (slug, str(path))


def test_a_folder_and_an_impossible_name(tmp_path: Path) -> None:
    for path in (tmp_path, Path("a\0b.seg"), Path("x" * 5000)):
        with pytest.raises(SegError) as caught:
            load(path)
        assert [d.slug for d in caught.value.diagnostics] in (["file-unreadable"], ["file-missing"])


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(bench: Any) -> None:
    text = using("Conv")
    path = bench.folder / "dos.seg"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load(path).graph.collect_state() == bench.program(text).graph.collect_state()


def test_libraries_and_recipes_are_checked_without_a_model(bench: Any) -> None:
    assert bench.check(HEAD) == (None, ())
    assert [d.slug for d in bench.errors(HEAD.replace("x -> Conv", "z -> Cnov"))] == [
        "unknown-name",
        "unknown-component",
    ]
    assert [d.slug for d in bench.errors("seg 1\n\nlet a = b\n")] == ["unknown-name"]
    recipe = 'seg 1\n\nextends "std/semantic.seg"\n\ntrain.epochs = 3\n'
    assert bench.check(recipe) == (None, ())
    assert [d.slug for d in bench.errors(recipe + "train.seed = -1\n")] == ["out-of-bounds"]
    assert [d.slug for d in bench.errors(recipe + 'import "std/lite_hrnet.seg"\n')] == ["model-missing"]
    with pytest.raises(SegError) as caught:
        load(bench.write(recipe))
    assert [d.slug for d in caught.value.diagnostics] == ["model-missing"]


def test_the_library_can_be_loaded_by_its_name() -> None:
    assert check_file("std/lite_hrnet.seg")[0] is None
    assert check_file("std/semantic.seg")[0] is None


def test_lets_that_nothing_uses_are_checked(bench: Any) -> None:
    errors = bench.setting_errors("let a = 1 // 0\nlet b = c\nlet d = e\nlet e = d\n")
    assert sorted(d.slug for d in errors) == ["division-by-zero", "unknown-name", "value-cycle"]


def test_names_are_bound_once_in_a_file(bench: Any) -> None:
    assert [d.slug for d in bench.setting_errors("let a = 1\nlet a = 2\n")] == ["rebinding"]
    errors = bench.errors(HEAD + HEAD[7:])
    assert [(d.slug, bench.said(d)) for d in errors] == [("rebinding", "Head")]
    assert [d.slug for d in bench.errors(HEAD.replace("Head", "Conv"))] == ["word-redefined"]
