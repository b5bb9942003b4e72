"""Shared fixtures: the repository root, folders built once, golden files, and a CI check that rejects skipped tests."""

from __future__ import annotations

import enum
import os
import re
import shutil
import signal
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

# Threads of several test processes spin while they wait for each other's cores. This must precede the import of torch.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def keep_to_one_core(worker: str) -> None:
    """Keep a worker of pytest-xdist to one core: OpenVINO and torch start as many threads as they may use cores."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


if "PYTEST_XDIST_WORKER" in os.environ:
    keep_to_one_core(os.environ["PYTEST_XDIST_WORKER"])

Build = Callable[[str, Callable[[Path], object]], Path]
"""Return the folder of a name; it is filled by the given function at the first call in any worker."""

ROOT = Path(__file__).resolve().parents[1]
ALLOWED_SKIPS = re.compile(r"shared|accelerator|CUDA|GPU|root user|file system", re.IGNORECASE)
"""Skip reasons that CI accepts: properties of the machine, never a tool that could have been installed."""


def is_in_ci() -> bool:
    """Return whether the tests run in CI."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--refresh-goldens", action="store_true", help="rewrite golden files instead of comparing")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--refresh-goldens") and is_in_ci():
        raise pytest.UsageError("golden files cannot be refreshed in CI")
    # Background jobs of a shell ignore SIGINT and pass that on to the processes that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not is_in_ci():
        return
    refused = [r for r in reporter.stats.get("skipped", []) if not ALLOWED_SKIPS.search(str(r.longrepr))]
    if refused:
        for report in refused:
            print(f"\nskipped in CI, which counts as a failure: {report.nodeid}: {report.longrepr}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def build_once(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Fill a folder once for all workers of pytest-xdist. Tests must not change it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def build(name: str, fill: Callable[[Path], object]) -> Path:
        folder, complete = shared / "shared" / name, shared / "shared" / f"{name}.complete"
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not complete.exists():
                # A build that failed in another worker leaves its files.
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                complete.touch()
        return folder

    return build


@contextmanager
def _fake_otx_task(module: str) -> Iterator[Any]:
    members = {"SEMANTIC_SEGMENTATION": "SEMANTIC_SEGMENTATION"}
    task = enum.Enum("OTXTaskType", members, type=str, module=module)
    names = [".".join(module.split(".")[: i + 1]) for i in range(module.count(".") + 1)]
    modules = {name: types.ModuleType(name) for name in names}
    vars(modules[module])["OTXTaskType"] = task
    sys.modules.update(modules)
    try:
        yield next(iter(task))
    finally:
        for name in names:
            del sys.modules[name]


@pytest.fixture
def otx_task() -> Callable[[str], AbstractContextManager[Any]]:
    """A context manager that fakes the enum that OTX pickles into checkpoints, in a module of the given name."""
    return _fake_otx_task


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compare a text with a golden file, or write the file with `--refresh-goldens`."""

    def compare(path: Path, actual: str) -> None:
        if request.config.getoption("--refresh-goldens"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(actual, encoding="utf-8")
        assert path.is_file(), f"{path.name} is missing: run pytest --refresh-goldens and review the new file"
        assert actual == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture
def wording(request: pytest.FixtureRequest, tmp_path: Path, golden: Callable[[Path, str], None]) -> Callable[..., None]:
    """Compare the wording of a text with ``tests/goldens/wording/<path of the module>/<test>[-suffix].txt``.

    ``tmp_path`` is written as ``<tmp>``, so that the golden is the same on every machine.
    """

    def compare(text: str, suffix: str = "") -> None:
        name = re.sub(r"[^\w.-]+", "-", request.node.name).strip("-") + (f"-{suffix}" if suffix else "")
        module = request.path.relative_to(ROOT / "tests").with_suffix("")
        place = ROOT / "tests" / "goldens" / "wording" / module / f"{name}.txt"
        golden(place, text.replace(str(tmp_path), "<tmp>").rstrip("\n") + "\n")

    return compare
