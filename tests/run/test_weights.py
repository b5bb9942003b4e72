"""Weights that a run starts from: fetched, written into its program and lock, and held to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from segdsl.cli.invoke import run_cli
from segdsl.diagnostics import SegError
from segdsl.run.train import train_file
from segdsl.storage.cache import build_cache_path, build_record_path

ONE_EPOCH = ["train.epochs=1", "train.optimizer.lr=1e-9"]


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the folder `served`."""
    (tmp_path / "served").mkdir()
    handler = partial(Quiet, directory=str(tmp_path / "served"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/w.safetensors"
    server.shutdown()
    server.server_close()


@pytest.fixture
def served(project: Path, tmp_path: Path, url: str) -> Path:
    """The file that is served: the weights of a run."""
    best = train_file("tiny.seg", quiet=True).run / "checkpoints" / "best.safetensors"
    return best.rename(tmp_path / "served" / "w.safetensors")


def test_a_run_from_an_address_can_be_repeated(project: Path, url: str, served: Path) -> None:
    first = train_file("tiny.seg", ONE_EPOCH, weights=url, quiet=True)
    lock = json.loads((first.run / "lock.json").read_text(encoding="utf-8"))
    program = (first.run / "program.seg").read_text(encoding="utf-8")
    assert lock["weights"]["model"]["source"] == url and f'model = "{url}"' in program
    assert len(lock["weights"]["model"]["sha256"]) == 64
    served.unlink()  # it is in the cache
    second = train_file(first.run / "program.seg", quiet=True)
    again = json.loads((second.run / "lock.json").read_text(encoding="utf-8"))
    assert (again["weights"], again["program"]) == (lock["weights"], lock["program"])
    last = [load_file(r.run / "checkpoints" / "last.safetensors") for r in (first, second)]
    assert all(torch.equal(last[0][key], last[1][key]) for key in last[0])


def test_a_run_is_not_repeated_from_other_weights(project: Path, url: str, served: Path) -> None:
    first = train_file("tiny.seg", ONE_EPOCH, weights=url, quiet=True)
    place = build_cache_path(url)
    save_file({key: value + 1 for key, value in load_file(served).items()}, place)
    build_record_path(place).unlink()  # as in another person's cache
    with pytest.raises(SegError) as caught:
        train_file(first.run / "program.seg", quiet=True)
    (found,) = caught.value.diagnostics
    assert found.slug == "weights-changed" and "lock.json" in found.message and found.span
    train_file("tiny.seg", ONE_EPOCH, weights=url, quiet=True)


def test_a_local_file_is_checked_against_the_lock_too(project: Path, served: Path) -> None:
    first = train_file("tiny.seg", ONE_EPOCH, weights=str(served), quiet=True)
    save_file({key: value + 1 for key, value in load_file(served).items()}, served)
    with pytest.raises(SegError) as caught:
        train_file(first.run / "program.seg", quiet=True)
    assert [d.slug for d in caught.value.diagnostics] == ["weights-changed"]
    train_file(first.run / "program.seg", [f'weights.model="{served}"'], quiet=True)


def test_unfitting_weights_are_reported_before_the_data_is_read(project: Path, tmp_path: Path) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "w.safetensors")
    for mask in (project / "set").rglob("masks/*"):
        mask.write_bytes(mask.read_bytes()[:60])
    with pytest.raises(SegError) as caught:
        names = 'data.classes=["ground", "red", "blue"]'
        train_file("tiny.seg", [names], weights=str(tmp_path / "w.safetensors"), quiet=True)
    assert caught.value.diagnostics[0].slug == "weights-do-not-fit"
    assert not Path("runs").exists()


def test_a_run_prints_its_initial_weights(project: Path, served: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for meta in (project / "set").rglob("dataset_meta.json"):
        meta.write_text(meta.read_text().replace("blue", "green"))
    assert run_cli(["train", "tiny.seg", "--weights", str(served), "--set", "train.epochs=1"]) == 0
    out = capsys.readouterr().out
    assert "carried: `classifier.{weight, bias}`: " in out
    assert "`ground`, `red`; random: `green`" in " ".join(out.split())
