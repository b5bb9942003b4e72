"""Training a tiny program: what a run leaves behind, and that it does what the program says."""

from __future__ import annotations

import csv
import json
import re
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from segdsl.data.loading.dataset import Sample, SampleKey, TrainDataset
from segdsl.lang.program import load
from segdsl.run.console.display import Display, StepFacts
from segdsl.run.engine.setup import compile_start_model, prepare_run
from segdsl.run.engine.validate import score_model
from segdsl.run.folder.checkpoint import open_run
from segdsl.run.program_data import open_data, resolve_classes
from segdsl.run.train import train_file
from segdsl.words.schedules import Horizon, compute_rate_factor


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def test_a_run_leaves_its_folder(project: Path) -> None:
    result = train_file("tiny.seg", quiet=True)
    assert result.run == Path("runs/tiny-1")
    assert result.epochs == 2
    names = sorted(p.relative_to(result.run).as_posix() for p in result.run.rglob("*") if p.is_file())
    events = [n for n in names if n.startswith("tensorboard/events.")]
    checkpoints = [f"checkpoints/{n}.safetensors" for n in ("best", "last", "state")]
    assert len(events) == 1
    assert sorted(set(names) - set(events)) == [
        *checkpoints, "lock.json", "machine.json", "metrics.csv", "program.seg", "report.html"
    ]  # fmt: skip
    log = rows(result.run)
    assert [row["epoch"] for row in log] == ["1", "2"]
    assert [row["step"] for row in log] == ["2", "4"]
    best = max(log, key=lambda row: float(row["val.dice"]))
    assert result.best["epoch"] == int(best["epoch"])
    assert result.best["dice"] == pytest.approx(float(best["val.dice"]), abs=1e-5)
    by_class = [float(best[f"val.dice.{name}"]) for name in ("ground", "red", "blue")]
    assert sum(by_class) / 3 == pytest.approx(float(best["val.dice"]), abs=1e-5)
    assert metadata(result.run / "checkpoints/best.safetensors")["epoch"] == best["epoch"]
    assert train_file("tiny.seg", ["train.epochs=1"], quiet=True).run == Path("runs/tiny-2")


def test_a_run_that_waits_for_data_prints_a_note(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("segdsl.run.engine.loop.NOTABLE_WAITING_SHARE", 1.0)
    train_file("tiny.seg", ["train.epochs=3"])
    assert "waiting for data" not in capsys.readouterr().out
    monkeypatch.setattr("segdsl.run.engine.loop.NOTABLE_WAITING_SHARE", 0.1)
    read = TrainDataset.__getitem__

    def late(dataset: TrainDataset, key: SampleKey) -> Sample:
        time.sleep(0.1)
        return read(dataset, key)

    monkeypatch.setattr(TrainDataset, "__getitem__", late)
    run = train_file("tiny.seg", ["train.epochs=3"]).run
    out = " ".join(capsys.readouterr().out.split())
    assert "waiting for data" in out and "(`data.train.workers` is 0)" in out
    assert all(0.1 < float(row["waiting"]) < 1 for row in rows(run))


def test_it_learns(project: Path) -> None:
    result = train_file("tiny.seg", ["train.epochs=12"], quiet=True)
    assert result.best["dice"] > 0.8
    assert float(rows(result.run)[0]["val.dice"]) < result.best["dice"]


def test_the_best_weights_give_the_logged_score(project: Path) -> None:
    result = train_file("tiny.seg", ["train.epochs=5", "train.monitor=val.miou"], quiet=True)
    run = open_run(result.run)
    assert run.classes == ("ground", "red", "blue")
    assert not run.model.training
    assert run.program.data.root == "../../set"
    index = open_data(run.program)
    setup = prepare_run(compile_start_model(run.program, str(run.weights)))
    confusion, _ = score_model(setup.network, setup.val_loader, run.classes, index.ignore, None)
    best = max(rows(result.run), key=lambda row: float(row["val.miou"]))
    assert confusion.miou == pytest.approx(float(best["val.miou"]), abs=1e-5)
    assert confusion.dice == pytest.approx(result.best["dice"], abs=1e-6)
    assert confusion.pixel_count == 3 * 23 * 32


def test_the_program_of_a_run_repeats_it(project: Path) -> None:
    first = train_file("tiny.seg", ["train.optimizer.lr=0.02"], quiet=True)
    second = train_file(first.run / "program.seg", quiet=True)
    assert rows(first.run)[1]["val.dice"] == rows(second.run)[1]["val.dice"]
    weights = [load_file(r.run / "checkpoints/last.safetensors") for r in (first, second)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_the_lock_holds_hashes_and_nothing_of_the_machine(project: Path) -> None:
    result = train_file(project / "tiny.seg", ["train.epochs=1"], quiet=True)
    text = (result.run / "lock.json").read_text(encoding="utf-8")
    lock = json.loads(text)
    assert sorted(lock) == ["classes", "data", "program", "sources", "weights"]
    assert "tiny.seg" in lock["sources"]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in (lock["program"], lock["data"]))
    assert str(project) not in text
    assert str(project) not in (result.run / "program.seg").read_text(encoding="utf-8")
    again = train_file(project / "tiny.seg", ["train.epochs=1"], quiet=True)
    assert (again.run / "lock.json").read_text(encoding="utf-8") == text
    weights = result.run / "checkpoints" / "best.safetensors"
    started = train_file("tiny.seg", ["train.epochs=1"], weights=str(weights), quiet=True)
    assert list(json.loads((started.run / "lock.json").read_text(encoding="utf-8"))["weights"]) == ["model"]


def test_initial_weights_stay_in_the_program_of_the_run(project: Path) -> None:
    first = train_file("tiny.seg", ["train.epochs=8"], quiet=True)
    weights = first.run / "checkpoints" / "best.safetensors"
    second = train_file("tiny.seg", ["train.epochs=1", "train.optimizer.lr=1e-6"], weights=str(weights), quiet=True)
    assert second.best["dice"] == pytest.approx(first.best["dice"], abs=0.05)
    third = train_file(second.run / "program.seg", quiet=True)
    assert rows(third.run)[0]["val.dice"] == rows(second.run)[0]["val.dice"]


def test_same_seed_same_weights(project: Path) -> None:
    runs = [train_file("tiny.seg", [f"train.seed={seed}"], quiet=True).run for seed in (3, 3, 4)]
    one, same, other = (load_file(run / "checkpoints/last.safetensors") for run in runs)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["stem.weight"], other["stem.weight"])


def test_workers_do_not_change_a_run(project: Path) -> None:
    runs = [
        train_file("tiny.seg", [f"data.train.workers={n}", f"data.val.workers={n}"], quiet=True).run for n in (0, 2)
    ]
    assert [row["train.loss"] for row in rows(runs[0])] == [row["train.loss"] for row in rows(runs[1])]


def test_the_rate_at_every_step_is_the_schedule(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    schedule = "train.schedule=Warmup(3 iters) -> ReduceOnPlateau(factor=0.5, patience=0 epochs)"
    monkeypatch.setattr(Display, "show_step", lambda self, facts: seen.append(facts.lr))
    result = train_file("tiny.seg", [schedule, "train.epochs=6", "train.optimizer.lr=1e-4"], quiet=True)
    chain = load("tiny.seg", [schedule]).train.schedule
    history = [float(row["val.dice"]) for row in rows(result.run)]
    assert seen == pytest.approx(
        [1e-4 * compute_rate_factor(chain, step, Horizon(2, 6), history) for step in range(12)]
    )
    assert seen[:3] == pytest.approx([1e-4 / 3, 2e-4 / 3, 1e-4])


def test_frozen_parts_stay_as_they_are(project: Path) -> None:
    program = resolve_classes("tiny.seg", ["train.freeze=[stem, bn]"])
    setup = prepare_run(compile_start_model(program))
    assert sum(len(group["params"]) for group in setup.optimizer.param_groups) == 2
    before = {key: value.clone() for key, value in setup.model.state_dict().items()}
    run = train_file("tiny.seg", ["train.freeze=[stem, bn]"], quiet=True).run
    after = load_file(run / "checkpoints/last.safetensors")
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"classifier.weight", "classifier.bias"}
    moved = load_file(train_file("tiny.seg", quiet=True).run / "checkpoints/last.safetensors")
    assert not torch.equal(before["bn.running_mean"], moved["bn.running_mean"])


def test_the_stopper_ends_a_run(project: Path) -> None:
    stop = "train.stop=EarlyStopping(min_delta=2.0, patience=2 epochs)"
    assert train_file("tiny.seg", [stop, "train.epochs=9"], quiet=True).epochs == 3


def test_the_smallest_loss_is_the_best_when_it_is_monitored(project: Path) -> None:
    overrides = ["train.monitor=val.loss", "train.epochs=4", "train.optimizer.lr=0.3"]
    result = train_file("tiny.seg", overrides, quiet=True)
    losses = [float(row["val.loss"]) for row in rows(result.run)]
    assert losses[int(result.best["epoch"]) - 1] == min(losses) < max(losses)


def test_only_the_checkpoints_of_the_policy_are_saved(project: Path) -> None:
    overrides = ["train.keep=Checkpoints(best=2, last=false)", "train.epochs=4"]
    run = train_file("tiny.seg", overrides, quiet=True).run
    assert sorted(p.stem for p in (run / "checkpoints").iterdir()) == ["best", "best-2"]
    scores = sorted((float(row["val.dice"]) for row in rows(run)), reverse=True)
    kept = [float(metadata(run / "checkpoints" / f"{name}.safetensors")["value"]) for name in ("best", "best-2")]
    assert kept == pytest.approx(scores[:2], abs=1e-5)


def test_ctrl_c_keeps_the_weights(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupt(self: Display, facts: StepFacts) -> None:
        if (facts.epoch, facts.step) == (2, 1):
            raise KeyboardInterrupt

    monkeypatch.setattr(Display, "show_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_file("tiny.seg", ["train.epochs=5"], out="stopped")
    facts = metadata(project / "stopped/checkpoints/last.safetensors")
    assert (facts["epoch"], facts["step"]) == ("1", "3")
    assert metadata(project / "stopped/checkpoints/state.safetensors")["step"] == "3"
    assert "stopped/checkpoints/last.safetensors" in capsys.readouterr().out
    assert open_run("stopped").weights.stem == "best"


def test_the_state_has_everything_needed_to_resume(project: Path) -> None:
    run = train_file("tiny.seg", quiet=True).run
    state = load_file(run / "checkpoints/state.safetensors")
    weights = load_file(run / "checkpoints/last.safetensors")
    for name in ("stem.weight", "classifier.bias"):
        assert state[f"exp_avg:{name}"].shape == weights[name].shape
        assert state[f"step:{name}"] == 4
    assert all(torch.equal(state[f"model:{name}"], weights[name]) for name in weights)
    history = json.loads(metadata(run / "checkpoints/state.safetensors")["history"])
    assert history == pytest.approx([float(row["val.dice"]) for row in rows(run)], abs=1e-5)


def test_a_warm_up_longer_than_the_run_is_a_warning(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_file("tiny.seg", ["train.schedule=Warmup(100 iters) -> Poly()"])
    assert "warning[warmup-too-long]" in capsys.readouterr().out
    train_file("tiny.seg", ["train.schedule=Warmup(2 iters) -> Poly()"])
    assert "warm-up" not in capsys.readouterr().out
