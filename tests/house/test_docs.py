"""Documentation matches the code: slugs and their explanations, docstrings of words, and README."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

import segdsl.ops
import segdsl.words  # noqa: F401 - importing registers every word
from segdsl.cli.group import root_group
from segdsl.cli.invoke import run_cli
from segdsl.explain import explanations
from segdsl.ir.program import SECTIONS, EvalSubset, Tolerance, TrainSubset
from segdsl.ir.word import REGISTRY, read_field_docs

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "segdsl").rglob("*.py"))
SLUG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*$")
DOCUMENTED: list[type[BaseModel]] = [*REGISTRY.values(), *SECTIONS.values(), TrainSubset, EvalSubset, Tolerance]


def parse_sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in SOURCES:
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def find_slug_takers() -> dict[str, int]:
    """Return the functions and classes that take a `slug`, with its position among the call arguments."""
    takers = {"Diagnostic": 0}
    for _, tree in parse_sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for method in node.body:
                    if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                        takers.update(_find_slug_position(node.name, method, skip=1))
            elif isinstance(node, ast.FunctionDef) and node.name != "__init__":
                takers.update(_find_slug_position(node.name, node, skip=0))
    return takers


def _find_slug_position(name: str, function: ast.FunctionDef, skip: int) -> dict[str, int]:
    names = [a.arg for a in function.args.args]
    if names[:1] == ["self"] and not skip:
        skip = 1
    return {name: names.index("slug") - skip} if "slug" in names else {}


def iterate_strings(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from iterate_strings(node.body)
        yield from iterate_strings(node.orelse)


def find_used_slugs() -> dict[str, str]:
    """Every slug that the code gives to something that takes one, with a place."""
    takers = find_slug_takers()
    found: dict[str, str] = {}
    for path, tree in parse_sources():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name not in takers:
                continue
            given = [k.value for k in node.keywords if k.arg == "slug"] or node.args[takers[name] : takers[name] + 1]
            for text in given[:1]:
                found.update(dict.fromkeys(filter(SLUG.match, iterate_strings(text)), f"{path.name}:{node.lineno}"))
    return found


def test_every_slug_in_the_code_is_explained() -> None:
    used = find_used_slugs()
    assert len(used) > 20
    known = explanations()
    missing = {slug: place for slug, place in used.items() if slug not in known}
    assert not missing, f"explain these in segdsl/explain/*.md: {missing}"


def test_every_explained_slug_is_in_the_code() -> None:
    spelled = {
        node.value
        for _, tree in parse_sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    gone = sorted(set(explanations()) - spelled)
    assert gone == []


def test_an_explanation_is_more_than_the_message() -> None:
    for slug, text in explanations().items():
        assert SLUG.match(slug), slug
        assert len(text.split()) >= 15, f"{slug} is hardly explained"


@pytest.mark.parametrize("record", DOCUMENTED, ids=lambda r: r.__name__)
def test_every_field_is_documented(record: type[BaseModel]) -> None:
    docs = read_field_docs(record)
    assert set(docs) == set(record.model_fields)
    assert all(text.rstrip("…").endswith((".", ", ")) for text in docs.values()), docs


@pytest.mark.parametrize("record", DOCUMENTED, ids=lambda r: r.__name__)
def test_every_word_is_documented(record: type[BaseModel]) -> None:
    assert (record.__doc__ or "").strip().endswith(".")


README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "grammar" / "GUIDE.md").read_text(encoding="utf-8")
MAX_README_LINES = 250


def read_shell_lines() -> list[list[str]]:
    """Return the commands in the shell blocks of README and the guide."""
    blocks = [*find_blocks(README, "sh"), *find_blocks(GUIDE, "sh")]
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= MAX_README_LINES


def test_commands_in_readme_and_guide_exist() -> None:
    lines = [words for words in read_shell_lines() if words and words[0] == "segdsl"]
    assert len(lines) >= 8
    context = click.Context(root_group)
    for words in lines:
        command = root_group.get_command(context, words[1])
        assert command is not None, words
        inner = command.get_command(context, words[2]) if isinstance(command, click.Group) else command
        assert inner is not None, words
        known = {o for p in inner.params for o in p.opts}
        options = {w.split("=")[0] for w in words if w.startswith("--")}
        assert options <= known, words


def test_make_targets_in_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    wanted = set(re.findall(r"\bmake ([a-z-]+)", README))
    assert {"demo", "test"} <= wanted
    for target in wanted:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_paths_in_readme_and_guide_exist() -> None:
    for text, folder in ((README, ROOT), (GUIDE, ROOT / "grammar")):
        links = [folder / link for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)]
        named = [ROOT / path for path in re.findall(r"`((?:specs|segdsl|grammar|tests|bench)/[\w./-]*)`", text)]
        assert len({*links, *named}) >= 5
        for path in {*links, *named}:
            assert path.exists(), path


def test_every_command_is_in_readme() -> None:
    assert not [name for name in root_group.list_commands(click.Context(root_group)) if f"segdsl {name}" not in README]


@pytest.mark.parametrize("name", ["bench/README.md", "specs/README.md", "CHANGELOG.md", "README.md"])
def test_documents_name_files_that_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:bench|specs|grammar|segdsl)/[\w/]+\.\w+)`", text):
        assert (ROOT / path).exists(), path


def find_readme_blocks(language: str) -> list[str]:
    return find_blocks(README, language)


def find_blocks(document: str, language: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)
    return [text for name, text in blocks if name == language]


def test_the_program_in_readme_checks_and_its_mistake_reads_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = find_readme_blocks("seg")[0]
    monkeypatch.chdir(tmp_path)
    Path("my.seg").write_text(program, encoding="utf-8")
    assert run_cli(["check", "my.seg"]) == 0
    assert run_cli(["fmt", "--check", "my.seg"]) == 0
    Path("my.seg").write_text(program.replace("epochs   = 40", "epoch = 40"), encoding="utf-8")
    capsys.readouterr()
    assert run_cli(["check", "my.seg"]) == 1
    shown = next(block for block in find_readme_blocks("") if block.startswith("error["))
    assert capsys.readouterr().err.startswith(shown)


def test_the_table_in_readme_is_what_compile_prints() -> None:
    shown = next(block for block in find_readme_blocks("") if block.startswith("segnext_t: "))
    assert shown == (ROOT / "tests" / "goldens" / "compile" / "segnext_t.txt").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_python_in_readme_runs() -> None:
    (code,) = find_readme_blocks("python")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "did you mean `epochs`?" in done.stdout
