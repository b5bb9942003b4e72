"""`report.html` of a complete run, an interrupted one, and one without its dataset."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from segdsl.cli.invoke import run_cli
from segdsl.data.loading.dataset import EvalDataset
from segdsl.data.loading.loader import EvalLoader
from segdsl.data.pictures.thumbnails import MAX_BYTES, encode_jpeg
from segdsl.lang.program import load
from segdsl.run.engine.setup import build_network, pick_device
from segdsl.run.folder.checkpoint import open_run
from segdsl.run.program_data import open_data
from segdsl.run.report.best_worst import MAX_IMAGES, ImageRanking, build_validation_loader, rank_images
from segdsl.run.report.chart import compute_ticks
from segdsl.run.report.history import read_history
from segdsl.run.report.page import SECTIONS
from segdsl.run.report.sections.model import highlight_program
from segdsl.run.report.write import write_report
from segdsl.run.train import train_file
from segdsl.scores.confusion import Confusion

VOID_ELEMENTS = frozenset({"meta", "img", "input", "line", "rect", "circle", "path"})
"""Elements without content."""


def text_of(report: Path) -> str:
    """Return the text of a page."""
    page = report.read_text(encoding="utf-8")
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub("<[^>]*>", " ", body)).split())


class Nesting(HTMLParser):
    """Checks that elements are closed in the reverse order in which they were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.ids += [known["id"] or ""] if "id" in known else []
        self.links += [known[key] or "" for key in ("href", "src") if key in known]
        assert not any(key.startswith("on") or key == "style" for key in known), known
        if name == "td":  # is closed by the next
            while self.open[-1] != "tr":
                self.handle_endtag("td")
        if name not in VOID_ELEMENTS:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        if name in VOID_ELEMENTS:
            return
        if name == "tr" and self.open[-1] == "td":
            self.open.pop()
        assert self.open.pop() == name


def rows(run_folder: Path) -> list[dict[str, str]]:
    with (run_folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_ends_with_its_report(project: Path) -> None:
    result = train_file("tiny.seg", ["train.epochs=4"], quiet=True)
    page, words = (result.run / "report.html").read_text(encoding="utf-8"), text_of(result.run / "report.html")
    best = rows(result.run)[int(result.best["epoch"]) - 1]
    assert f"best epoch {best['epoch']} of 4 val.dice {float(best['val.dice']):.4f}" in words
    assert "parameters 259" in words and "after 4 of 4 epochs" in words and "Tiny from tiny.seg" in words
    for title, *_ in SECTIONS.values():
        assert title in words
    machine = json.loads((result.run / "machine.json").read_text(encoding="utf-8"))
    assert machine["torch"] in words and machine["device"] == "cpu" and machine["cores"] >= 1
    lock = json.loads((result.run / "lock.json").read_text(encoding="utf-8"))
    assert lock["program"] in words and "CrossEntropy" in words
    assert page.count('src="data:image/jpeg;base64,') == 9, "three images, all of them"
    nesting = Nesting()
    nesting.feed(page)
    assert nesting.open == [] and len(set(nesting.ids)) == len(nesting.ids)
    assert {link[1:] for link in nesting.links if link[0] == "#"} == {*SECTIONS, "main"} <= set(nesting.ids)


def test_a_report_loads_and_runs_nothing(hostile: Path) -> None:
    result = train_file("tiny.seg", ["train.epochs=1"], quiet=True)
    page = (result.run / "report.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1 and "onerror" not in re.sub("&lt;.*?&gt;", "", page)
    assert "<script>window.hacked = 1</script>" in text_of(result.run / "report.html")
    assert "\u202e" not in page
    nesting = Nesting()
    nesting.feed(page)
    assert {link.partition(",")[0] for link in nesting.links if link[0] != "#"} == {"data:image/jpeg;base64"}
    assert "url(" not in page and "@import" not in page
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy and "default-src 'none'" in unescape(policy[1]) and "unsafe" not in policy[1]


def test_the_scores_are_those_of_the_best_epoch(project: Path) -> None:
    result = train_file("tiny.seg", ["train.epochs=6", "train.optimizer.lr=0.3"], quiet=True)
    words, best = text_of(result.run / "report.html"), rows(result.run)[int(result.best["epoch"]) - 1]
    assert f"mean dice {float(best['val.dice']):.4f}" in words
    for name in ("ground", "red", "blue"):
        assert f"{name} {float(best[f'val.dice.{name}']):.4f}" in words, "the class table"
    ground = 8 * 23 * 32 - 8 * 2 * 63
    assert f"ground {ground:,} {ground / (8 * 24 * 32):.2%}" in words, "the counts of the training subset"


def ranking_of(run_folder: Path) -> ImageRanking:
    opened = open_run(run_folder)
    index = open_data(opened.program)
    network = build_network(opened.program, opened.model, pick_device())
    return rank_images(network, build_validation_loader(opened.program, index), opened.classes, index.ignore)


def test_images_are_ranked_as_a_slow_count_ranks_them(project: Path) -> None:
    for number in range(9):
        for kind in ("images", "masks"):
            shutil.copy(f"set/train/{kind}/1-{number % 8}.png", f"set/val/{kind}/9-{number}.png")
    result = train_file("tiny.seg", ["train.epochs=2"], quiet=True)
    found, opened = ranking_of(result.run), open_run(result.run)
    samples = EvalDataset(open_data(opened.program), "val", (24, 32))
    network = build_network(opened.program, opened.model, pick_device())
    scores = []
    for position in range(len(samples)):
        batch = next(iter(EvalLoader(_Only(samples, position), 1, 0)))
        confusion = Confusion(opened.classes, 255)
        confusion.update(network(batch.images).argmax(1).numpy(), batch.target.numpy())
        scores.append((confusion.dice, position))
    assert [e.position for e in found.worst] == [position for _, position in sorted(scores)[:MAX_IMAGES]]
    assert [e.dice for e in found.worst] == pytest.approx([dice for dice, _ in sorted(scores)[:MAX_IMAGES]])
    assert {e.position for e in found.best} == {position for _, position in sorted(scores)[-MAX_IMAGES:]}
    assert [e.dice for e in found.best] == sorted((e.dice for e in found.best), reverse=True)
    assert found.confusion.pixel_count == 12 * 23 * 32


class _Only(EvalDataset):
    """One sample of a dataset."""

    def __init__(self, samples: EvalDataset, position: int) -> None:
        super().__init__(samples.index, samples.subset.name, samples.size)
        self.position = position

    def __len__(self) -> int:
        return 1

    def __getitem__(self, position: int):
        return super().__getitem__(self.position)


def test_few_images_are_shown_once(project: Path) -> None:
    found = ranking_of(train_file("tiny.seg", ["train.epochs=1"], quiet=True).run)
    assert len(found.worst) == 2 and len(found.best) == 1
    assert {e.position for e in (*found.worst, *found.best)} == {0, 1, 2}


def test_an_interrupted_run_gets_its_report(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: object, row: object, left: float, best: bool) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("segdsl.run.console.display.Display.show_epoch", stop)
        train_file("tiny.seg", quiet=True)
    assert not Path("runs/tiny-1/report.html").exists()
    assert run_cli(["report", "runs/tiny-1"]) == 0
    words = text_of(Path("runs/tiny-1/report.html"))
    assert "interrupted after 1 of 2" in words and "best epoch 1 of 1" in words and "Worst images" in words


def test_a_resumed_run_lists_its_resumptions(project: Path) -> None:
    train_file("tiny.seg", out="left", quiet=True)
    assert "(resumed" not in text_of(project / "left/report.html")
    for epochs in (3, 4):
        train_file("left", [f"train.epochs={epochs}"], quiet=True, resume=True)
    when = [entry["when"] for entry in json.loads((project / "left/resumed.json").read_text(encoding="utf-8"))]
    report = project / "left/report.html"
    Nesting().feed(report.read_text(encoding="utf-8"))
    text = text_of(report)
    assert "(resumed 2 times) after 4 of 4" in text
    for moment, epoch, step in zip(when, (2, 3), (4, 6), strict=True):
        shown = moment.replace("T", " ").replace("+00:00", " UTC")
        assert f"{shown} {epoch} {step} train.epochs = {epoch + 1}" in text


def test_a_run_without_epochs_gets_a_report(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train_file("tiny.seg", ["train.epochs=1"], quiet=True).run
    shutil.rmtree(folder / "checkpoints")
    log = folder / "metrics.csv"
    log.write_text(log.read_text(encoding="utf-8").splitlines()[0] + "\n1,2,0.", encoding="utf-8")
    (folder / "machine.json").unlink()
    assert run_cli(["report", str(folder), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["report"] == str(folder / "report.html") and "no checkpoint" in answer["missing"]
    words = text_of(folder / "report.html")
    assert "interrupted after 0 of 1" in words
    assert "no machine.json" in words and "No images: " in words
    assert "subset train" in words, "the data is there all the same"


def test_a_run_without_its_dataset_keeps_its_curves(
    project: Path, slugs: Callable[[Callable[[], object]], list[str]]
) -> None:
    folder = train_file("tiny.seg", quiet=True).run
    (project / "set").rename(project / "elsewhere")
    assert "does not exist" in write_report(folder).missing
    words = text_of(folder / "report.html")
    assert "No statistics" in words and "training" in words and "best epoch" in words
    assert f"red {float(rows(folder)[1]['val.dice.red']):.4f}" in words
    assert slugs(lambda: write_report(folder, "nowhere")) == ["data-root-missing"]
    assert write_report(folder, "elsewhere").missing == "" and "Worst images" in text_of(folder / "report.html")
    assert slugs(lambda: write_report("set")) == ["run-not-found"]


def test_a_failed_report_does_not_fail_the_run(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    def fill_disk(run: object) -> str:
        monkeypatch.setattr(Path, "write_bytes", refused)
        return ""

    monkeypatch.setattr("segdsl.run.report.write.render_report", fill_disk)
    result = train_file("tiny.seg", ["train.epochs=1"])
    out = capsys.readouterr().out
    assert result.epochs == 1 and "`report.html`" in out and "report:  " not in out


def test_how_a_run_ended_is_read_from_its_log(project: Path) -> None:
    settings = ["train.epochs=9", "train.stop=EarlyStopping(min_delta = 1.0, patience = 2 epochs)"]
    folder = train_file("tiny.seg", settings, quiet=True).run
    history, program = read_history(folder / "metrics.csv"), load(folder / "program.seg")
    assert len(history) == 3 and history.describe_outcome(program) == "stopped early"
    assert "after 3 of 9" in text_of(folder / "report.html")
    assert history.find_best_index("val.dice") == int(np.argmax([float(row["val.dice"]) for row in rows(folder)]))
    assert history.find_best_index("val.loss") == int(np.argmin([float(row["val.loss"]) for row in rows(folder)]))


def test_a_log_with_gaps_is_read(tmp_path: Path) -> None:
    log = tmp_path / "metrics.csv"
    lines = [f"{n},{2 * n},{10 * n},{v}" for n, v in ((1, "nan"), (2, "0.5"), (3, "0.4"), (2, "0.7"), (4, "0.7"))]
    log.write_text("\n".join(["epoch,step,seconds,val.dice", *lines, "5,10"]), encoding="utf-8")
    history = read_history(log)
    assert history.epochs == (1, 2, 3, 4) and history.get_column("val.dice")[1:] == [0.7, 0.4, 0.7]
    assert history.find_best_index("val.dice") == 1 and history.compute_epoch_seconds() == [10] * 4
    assert all(math.isnan(value) for value in history.get_column("lr"))
    assert len(read_history(tmp_path / "none.csv")) == 0


def test_long_runs_are_thinned(tmp_path: Path) -> None:
    log = tmp_path / "metrics.csv"
    log.write_text("epoch,val.dice\n" + "\n".join(f"{n},{0.5 + (n == 778)}" for n in range(1, 10_001)))
    history = read_history(log)
    few = history.thin_out(100, history.find_best_index("val.dice"))
    assert len(few) <= 102 and few.epochs[0] == 1 and few.epochs[-1] == 10_000 and 778 in few.epochs
    assert few.get_column("val.dice")[few.epochs.index(778)] == 1.5


@pytest.mark.parametrize(
    ("low", "high"), [(0.1, 0.9), (0.8, 0.81), (3.0, 3.0), (0.0, 0.0), (-2.0, 5.0), (1e-6, 6e-4), (0.0, 1e29)]
)
def test_axes_have_a_few_round_marks_around_their_values(low: float, high: float) -> None:
    marks = compute_ticks(low, high)
    assert 2 <= len(marks) <= 8 and marks[0] <= low and marks[-1] >= high * (1 - 1e-9) and marks[0] < marks[-1]
    assert all(len(f"{mark:.6g}") <= 8 for mark in marks)


def test_a_program_is_highlighted() -> None:
    shown = highlight_program('seg 1\n\n## a <b>\ndata.root = "x"\n')
    assert re.search('<span class="[a-z0-9]+">"x"</span>', shown) and "<b>" not in shown


def test_images_are_bounded_in_size() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8)
    assert len(encode_jpeg(noise)) <= MAX_BYTES < len(encode_jpeg(noise, (95,)))


def test_the_report_of_many_classes_is_small(project: Path) -> None:
    names = {str(k): f"class {k}" for k in range(200)}
    rng = np.random.default_rng(0)
    from PIL import Image

    for subset in ("train", "val"):
        Path(f"set/{subset}/dataset_meta.json").write_text(json.dumps({"label_map": names}), encoding="utf-8")
        for mask in Path(f"set/{subset}/masks").iterdir():
            Image.fromarray(rng.integers(0, 200, (24, 32), np.uint8)).save(mask)
    folder = train_file("tiny.seg", ["train.epochs=1"], quiet=True).run
    assert (folder / "report.html").stat().st_size < 3_000_000
    assert 'class="matrix dense"' in (folder / "report.html").read_text(encoding="utf-8")
