"""A training step: several batches to a step, clipping, the averaged weights, number formats."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from segdsl.run.console.display import Display
from segdsl.run.engine.clock import Clock
from segdsl.run.engine.criterion import build_criterion
from segdsl.run.engine.group_loss import GroupLoss, build_group_loss, group_batches
from segdsl.run.engine.loop import make_step, train_epoch
from segdsl.run.engine.precision import StepPrecision, choose_precision
from segdsl.run.engine.setup import Setup, compile_start_model, prepare_run
from segdsl.run.engine.state import TrainState
from segdsl.run.program_data import resolve_classes
from segdsl.run.session import build_start_state
from segdsl.run.train import train_file
from segdsl.words.losses import CrossEntropy, Dice, WeightedSum
from segdsl.words.weight_averaging import EMA

Slugs = Callable[[Callable[[], object]], list[str]]
NO_NORM = "bn   = stem -> BatchNorm()", "bn   = stem"


def prepared(overrides: Sequence[str] = ()) -> tuple[Setup, TrainState]:
    setup = prepare_run(compile_start_model(resolve_classes("tiny.seg", overrides)))
    return setup, build_start_state(setup)


def weights_after_an_epoch(overrides: Sequence[str]) -> dict[str, torch.Tensor]:
    setup, state = prepared(overrides)
    train_epoch(setup, state, Display(quiet=True), Clock(1, 0.0))
    return setup.model.state_dict()


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def uneven(project: Path) -> Path:
    """The project without batch norm, in which every other training mask is nearly all void."""
    text = (project / "tiny.seg").read_text(encoding="utf-8").replace(*NO_NORM)
    (project / "tiny.seg").write_text(text, encoding="utf-8")
    for path in sorted((project / "set/train/masks").iterdir())[::2]:
        mask = np.array(Image.open(path))
        mask[2:] = 255
        Image.fromarray(mask).save(path)
    return project


@pytest.mark.parametrize(
    "loss", ["CrossEntropy()", "CrossEntropy(average = all)", "CrossEntropy(label_smoothing = 0.1)"]
)
def test_four_batches_of_one_are_a_batch_of_four(uneven: Path, loss: str) -> None:
    optimizer = ["train.optimizer=SGD(lr=0.5)", f"train.loss={loss}"]
    whole = weights_after_an_epoch(optimizer)
    parts = weights_after_an_epoch([*optimizer, "data.train.batch=1", "train.accumulate=4"])
    assert max(float((whole[key] - parts[key]).abs().max()) for key in whole) < 1e-6


def test_a_mean_of_means_would_be_another_loss(uneven: Path) -> None:
    optimizer = ["train.optimizer=SGD(lr=0.5)"]
    by_pixel = weights_after_an_epoch(optimizer)
    by_image = weights_after_an_epoch([*optimizer, "train.loss=CrossEntropy(average = all)"])
    assert max(float((by_pixel[key] - by_image[key]).abs().max()) for key in by_pixel) > 1e-3


def test_the_shares_of_a_sum_are_those_of_each_loss() -> None:
    word = WeightedSum(losses=(CrossEntropy(), Dice(), CrossEntropy(average="all")), weights=(1.0, 2.0, 0.5))
    loss = build_group_loss(word, 2, 255)
    void, plain = torch.full((1, 4, 4), 255), torch.zeros(3, 4, 4, dtype=torch.int64)
    void[0, 0, :] = 1
    assert loss.compute_shares([void, plain]) == [[4 / 52, 1 / 4, 16 / 64], [48 / 52, 3 / 4, 48 / 64]]
    assert loss.compute_shares([torch.full((1, 2, 2), 255)]) == [[1.0, 1.0, 1.0]]
    logits = torch.randn(3, 2, 4, 4)
    assert float(loss.compute_part(logits, plain, [1.0] * 3)) == pytest.approx(
        float(build_criterion(word, 2, 255)(logits, plain))
    )


def test_a_group_of_void_is_no_division_by_zero() -> None:
    loss, void = build_group_loss(CrossEntropy(), 2, 255), torch.full((1, 2, 2), 255)
    assert loss.compute_shares([void, void]) == [[0.0], [0.0]]
    assert float(loss.compute_part(torch.randn(1, 2, 2, 2), void, [0.0])) == 0.0


def test_the_last_group_of_an_epoch_may_be_smaller() -> None:
    assert list(group_batches(iter("abcde"), 2)) == [["a", "b"], ["c", "d"], ["e"]]


def test_steps_are_the_optimizers(project: Path) -> None:
    schedule = "train.schedule=Warmup(3 iters) -> Constant()"
    overrides = ["data.train.batch=1", "train.accumulate=3", "train.epochs=2", schedule, "train.optimizer.lr=0.3"]
    log = rows(train_file("tiny.seg", overrides, quiet=True).run)
    assert [row["step"] for row in log] == ["3", "6"]  # 8 batches of 1 are groups of 3, 3 and 2
    assert [float(row["lr"]) for row in log] == pytest.approx([0.3, 0.3])
    setup, _ = prepared(overrides)
    assert setup.horizon.steps_per_epoch == 3


def test_a_long_gradient_is_cut(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup, state = prepared(["train.clip=0.01", "train.optimizer=SGD(lr=1.0, momentum=0.0)", "drop train.schedule"])
    before = {name: p.detach().clone() for name, p in setup.model.named_parameters()}
    batch = next(setup.train_loader.iterate_epoch(0))
    loss = setup.loss.compute_part(setup.network(batch.images), batch.target.long(), [1.0])
    loss.backward()
    setup.optimizer.param_groups[0]["lr"] = 1.0
    make_step(setup, state, [batch], loss.detach(), 1.0)
    moved = torch.stack([(p.detach() - before[name]).norm() for name, p in setup.model.named_parameters()]).norm()
    assert moved.item() == pytest.approx(0.01, rel=1e-3)
    assert state.progress.clipped == 1 and state.progress.norms > 0.01
    run = train_file("tiny.seg", ["train.clip=0.01"]).run
    assert [float(row["train.clipped"]) for row in rows(run)] == [1.0, 1.0]
    assert float(rows(run)[0]["train.grad_norm"]) > 0.01
    out = capsys.readouterr().out
    assert out.count("`train.clip = 0.01`") == 1 and "100% of the steps" in out
    assert [
        float(row["train.clipped"]) for row in rows(train_file("tiny.seg", ["train.clip=1e6"], quiet=True).run)
    ] == [0, 0]


def test_the_average_is_its_closed_form(project: Path) -> None:
    word = EMA(decay=0.6, ramp=4.0)
    assert [word.compute_decay(k) for k in range(5)] == pytest.approx([1 / 4, 2 / 5, 3 / 6, 4 / 7, 0.6])
    assert EMA(decay=0.6, ramp=1.0).compute_decay(0) == 0.6
    setup, state = prepared(["train.ema=EMA(decay = 0.6, ramp = 4)", "train.freeze=[classifier]"])
    assert state.average is not None
    expected = {name: tensor.clone() for name, tensor in state.average.means.items()}
    assert set(expected) == {"stem.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"}

    class Follow(Display):
        def show_step(self, *_: object) -> None:
            decay = word.compute_decay(state.progress.step - 1)
            for name, tensor in expected.items():
                expected[name] = decay * tensor + (1 - decay) * setup.model.state_dict()[name]

    for _ in range(2):
        train_epoch(setup, state, Follow(quiet=True), Clock(1, 0.0))
        state.progress.end_epoch(0.0)
    for name, tensor in expected.items():
        torch.testing.assert_close(state.average.means[name], tensor)
    own = {name: tensor.clone() for name, tensor in setup.model.state_dict().items()}
    with state.use_average():
        inside = {name: tensor.clone() for name, tensor in setup.model.state_dict().items()}
    assert all(torch.equal(inside[name], state.collect_weights()[name]) for name in own)
    assert not torch.equal(inside["stem.weight"], own["stem.weight"])
    assert all(torch.equal(own[name], tensor) for name, tensor in setup.model.state_dict().items())


def test_the_average_is_scored_and_saved(project: Path) -> None:
    run = train_file("tiny.seg", ["train.ema=EMA(decay = 0.999, ramp = 1)", "train.epochs=3"], quiet=True).run
    setup, _ = prepared()
    last, state = (load_file(run / f"checkpoints/{name}.safetensors") for name in ("last", "state"))
    # After six steps with a decay of 0.999 the average is still the start, and scores as it does.
    start = setup.model.state_dict()["stem.weight"]
    torch.testing.assert_close(last["stem.weight"], start, atol=2e-3, rtol=0)
    assert not torch.allclose(state["model:stem.weight"], start, atol=2e-2)
    assert torch.equal(state["average:stem.weight"], last["stem.weight"])
    for name in ("best", "last"):
        with safe_open(run / f"checkpoints/{name}.safetensors", framework="pt") as file:
            assert file.metadata()["averaged"] == "EMA(decay = 0.999, ramp = 1.0)"
    plain = train_file("tiny.seg", ["train.epochs=3"], quiet=True).run
    assert float(rows(run)[-1]["val.dice"]) < float(rows(plain)[-1]["val.dice"]) - 0.1
    with safe_open(plain / "checkpoints/best.safetensors", framework="pt") as file:
        assert "averaged" not in file.metadata()


def test_half_precision_inside_and_float32_outside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half, single = (
        weights_after_an_epoch(["train.optimizer=SGD(lr=0.1)", f"train.precision={name}"]) for name in ("bf16", "fp32")
    )
    assert all(tensor.dtype == torch.float32 for tensor in half.values() if tensor.is_floating_point())
    assert 0 < float((half["stem.weight"] - single["stem.weight"]).abs().max()) < 0.1
    seen: list[torch.dtype] = []
    of_loss: list[torch.dtype] = []
    part = GroupLoss.compute_part
    monkeypatch.setattr(
        GroupLoss,
        "compute_part",
        lambda self, logits, *rest: (of_loss.append(logits.dtype), part(self, logits, *rest))[1],
    )
    setup, state = prepared(["train.precision=bf16"])
    setup.model.get_submodule("classifier").register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    train_epoch(setup, state, Display(quiet=True), Clock(1, 0.0))
    assert seen == [torch.bfloat16, torch.bfloat16]
    assert of_loss == [torch.float32, torch.float32]


def test_a_format_that_the_device_lacks_is_refused(project: Path, slugs: Slugs) -> None:
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu) == StepPrecision("fp32", cpu)
    assert choose_precision("auto", torch.device("mps")).format == "fp32"
    assert choose_precision("auto", torch.device("xpu")).format == "bf16"
    assert choose_precision("fp16", torch.device("cuda")).format == "fp16"
    assert slugs(lambda: choose_precision("bf16", torch.device("mps"))) == ["precision-not-here"]
    assert slugs(lambda: train_file("tiny.seg", ["train.precision=fp16"], device="cpu")) == ["precision-not-here"]
    assert not (project / "runs").exists()


def test_a_step_that_fp16_is_too_narrow_for_is_left_out(project: Path, slugs: Slugs) -> None:
    setup, state = prepared(["train.ema=EMA()", "train.clip=1.0"])
    state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    batch = next(setup.train_loader.iterate_epoch(0))

    def step(factor: float) -> None:
        setup.optimizer.zero_grad()
        loss = setup.loss.compute_part(setup.network(batch.images), batch.target.long(), [1.0])
        (state.scaler.scale(loss) * factor).backward()
        make_step(setup, state, [batch], loss.detach(), 1.0)

    before = setup.model.get_parameter("stem.weight").detach().clone()
    step(math.inf)
    assert torch.equal(setup.model.get_parameter("stem.weight"), before)
    assert state.scaler.get_scale() == 2.0**15
    assert state.average is not None and state.average.updates == 0
    assert (state.progress.step, state.progress.overflows, state.progress.norms) == (1, 1, 0.0)
    step(1e28)  # every number of the gradient is finite, and its length is not
    assert torch.equal(setup.model.get_parameter("stem.weight"), before)
    step(1.0)
    assert not torch.equal(setup.model.get_parameter("stem.weight"), before)
    assert (state.progress.overflows, state.average.updates) == (0, 1)
    for _ in range(24):
        step(math.inf)
    state.progress.inside = 0
    assert slugs(lambda: step(math.inf)) == ["gradient-not-finite"]
