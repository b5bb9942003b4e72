"""Progress of weight downloads: a bar on a terminal, one line in a pipe."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.text import Text

from segdsl.weights.fetch import Watcher


class FetchDisplay(Watcher):
    """Shows downloads on ``console``, by default standard error; leaving the context removes the bar."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._last_name = ""

    def __enter__(self) -> FetchDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove_bar()

    def on_progress(self, name: str, done: int, total: int | None) -> None:
        """Show that ``done`` of ``total`` bytes of a file have arrived."""
        if self.console.quiet:
            return
        if not self.console.is_terminal:
            if self._last_name != name:
                self._print_note(f"downloading {name}{f' ({total / 2**20:,.1f} MiB)' if total else ''}")
            self._last_name = name
            return
        if self._bar is None or self._task is None:
            columns = (TextColumn("{task.description}"), BarColumn(20), DownloadColumn(), TransferSpeedColumn())
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._task = self._bar.add_task(f"downloading {name[:32]}", total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total)

    def on_wait(self, name: str) -> None:
        """Print that another process is downloading the file."""
        self._print_note(f"another process is downloading {name}: waiting for it")

    def on_finish(self, name: str) -> None:
        """Remove the bar once the file has arrived."""
        self._remove_bar()

    def _remove_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None

    def _print_note(self, text: str) -> None:
        self.console.print(Text.assemble(("note: ", "cyan"), text), soft_wrap=True)
