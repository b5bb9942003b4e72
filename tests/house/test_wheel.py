"""An installed wheel is complete: it can check, format, show and explain."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LANGUAGE = ROOT.parent / "shared" / "design" / "LANGUAGE.md"

pytestmark = pytest.mark.slow


def run_process(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run_process(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment with the wheel, which uses the dependencies installed here."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    purelib = Path(
        run_process(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    # Python searches a folder listed in a .pth file but ignores its .pth files, such as that of an editable segdsl.
    (purelib / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    run_process(
        sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=folder
    )
    found = run_process(python, "-c", "import segdsl; print(segdsl.__file__)", cwd=folder).strip()
    assert Path(found).is_relative_to(purelib)
    return folder / "bin"


def test_the_wheel_holds_what_it_needs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    here = {
        p.relative_to(ROOT).as_posix()
        for p in (ROOT / "segdsl").rglob("*")
        if p.suffix in (".py", ".seg", ".md", ".table", ".css", ".js", ".j2")
    }
    assert here <= set(names)
    assert "segdsl/grammar/seg.lark" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    tops = {name.split("/")[0] for name in names}
    assert all(top == "segdsl" or top.endswith(".dist-info") for top in tops), tops


def read_examples() -> list[str]:
    return re.findall(r"^```seg\n(.*?)^```", LANGUAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.skipif(not LANGUAGE.is_file(), reason="the language definition in shared/ is not there")
def test_the_examples_of_the_language_work_elsewhere(elsewhere: Path, tmp_path: Path) -> None:
    files = []
    for number, text in enumerate(read_examples()):
        file = tmp_path / f"example{number}.seg"
        file.write_text(text, encoding="utf-8")
        files.append(file)
    assert len(files) >= 4
    run_process(elsewhere / "segdsl", "fmt", *files, cwd=tmp_path)
    run_process(elsewhere / "segdsl", "fmt", "--check", *files, cwd=tmp_path)
    alone = [f for f in files if re.search(r"model = LiteHRNetS\(|^model PyramidSeg\(", f.read_text(), re.MULTILINE)]
    assert len(alone) == 2
    run_process(elsewhere / "segdsl", "check", *alone, cwd=tmp_path)


def test_the_library_and_the_explanations_are_there(elsewhere: Path, tmp_path: Path) -> None:
    assert "model LiteHRNetS" in run_process(elsewhere / "segdsl", "show", "std/lite_hrnet.seg", cwd=tmp_path)
    assert len(run_process(elsewhere / "segdsl", "explain", cwd=tmp_path).split()) > 50
    (tmp_path / "my.seg").write_text((ROOT / "specs" / "quickstart.seg").read_text(), encoding="utf-8")
    run_process(elsewhere / "segdsl", "check", "my.seg", cwd=tmp_path)


def test_pygments_finds_the_lexer(elsewhere: Path, tmp_path: Path) -> None:
    code = "from pygments.lexers import get_lexer_for_filename; print(get_lexer_for_filename('a.seg').name)"
    assert "seg" in run_process(elsewhere / "python", "-c", code, cwd=tmp_path).lower()
