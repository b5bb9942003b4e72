"""The figures of a benchmark: which exist for what, and that counts are exact. Times are not tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segdsl.inference import bench as benchmark
from segdsl.inference.bench import measure_median_ms, measure_speed
from segdsl.inference.models.torch_model import TorchModel
from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program


@pytest.fixture(autouse=True)
def few_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "SECONDS", 0.0)
    monkeypatch.setattr(benchmark, "MIN_REPEATS", 1)


@pytest.mark.parametrize("kind", ["file", "run", "model"])
def test_figures_of_every_kind_of_model(kind: str, run: Path, fp32: Path) -> None:
    found = measure_speed({"file": run / "program.seg", "run": run, "model": fp32}[kind])
    assert set(found) == {"latency_ms", "iter_ms", "fps", "params", "flops", "peak_rss_mb"}
    graph = load(run / "program.seg").graph
    assert (found["params"], found["flops"]) == (graph.count_parameters(), 2 * graph.count_macs())
    assert found["fps"] == pytest.approx(1000 / found["latency_ms"], rel=0.01)
    assert (found["iter_ms"] is None) == (kind == "model")
    assert found["peak_rss_mb"] > 50


def test_a_step_changes_the_weights_and_leaves_frozen_ones(run: Path, tmp_path: Path) -> None:
    program = load(run / "program.seg", ["train.freeze=[stem]"])
    model = TorchModel(tmp_path, program, compile_program(program, weights="none").model)
    before = {name: p.detach().clone() for name, p in model.model.named_parameters()}
    step = benchmark._make_training_step(model, np.zeros((45, 64, 3), np.uint8))
    assert step is not None
    step()
    changed = {name.partition(".")[0] for name, p in model.model.named_parameters() if not p.equal(before[name])}
    assert "head" in changed and "stem" not in changed


def test_a_program_without_recipe_has_no_step(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "program.seg"
    text = (run / "program.seg").read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    program = load(file)
    bare = program.model_copy(update={"train": program.train.model_copy(update={"optimizer": None})})
    model = TorchModel(tmp_path, bare, compile_program(bare, weights="none").model)
    assert benchmark._make_training_step(model, np.zeros((45, 64, 3), np.uint8)) is None


def test_the_median_excludes_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter([100.0, 100.0, 1.0, 3.0, 2.0])
    now = [0.0]

    def work() -> None:
        now[0] += next(calls)

    monkeypatch.setattr(benchmark, "MIN_REPEATS", 3)
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now[0])
    assert measure_median_ms(work) == 2000.0
