"""Downloading a file of the Hugging Face hub by its own library: tokens, gated models, mirrors and its cache."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

from segdsl.weights.download import STATUS_REASONS, DiskWriteError, DownloadError, DownloadProgress

ADDRESS_PATTERN = re.compile(r"https://huggingface\.co/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
CONNECTION_FAILED = "the connection to the Hugging Face hub failed"


def download_hub_file(url: str, folder: Path, report: DownloadProgress, token: str, endpoint: str) -> Path:
    """Download ``url``, a file of the hub, into ``folder`` and return its path there.

    Without a ``token``, that of `hf auth login` is used. ``endpoint`` is the URL of a mirror, or empty. Raises
    :class:`~segdsl.weights.download.DownloadError` and :class:`~segdsl.weights.download.DiskWriteError`.
    """
    # Read at import: requests carry no facts about this machine, and go to no other address.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Imported here because it takes half a second, which a command that finds everything in the cache does not need.
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, LocalEntryNotFoundError

    # Its warnings would mix with our display; all that matters arrives as an exception.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    address = ADDRESS_PATTERN.fullmatch(url)
    if address is None:
        raise DownloadError("the URL is invalid")
    repository, revision, name = address.groups()
    try:
        return Path(
            hf_hub_download(
                repository,
                name,
                revision=revision,
                local_dir=folder,
                token=token or None,
                endpoint=endpoint or None,
                tqdm_class=_make_progress_class(report),
            )
        )
    except (HfHubHTTPError, FileMetadataError, LocalEntryNotFoundError) as error:
        # The library looks for a local copy when it gets no answer, and then complains that there is none.
        raise _translate_refusal(error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error) from error
    except OSError as error:
        # Its check of the received size raises an OSError without a number.
        if error.errno is None:
            raise DownloadError("the server sent a different number of bytes than announced") from error
        raise DiskWriteError((error.strerror or "the file cannot be written").lower()) from error
    except Exception as error:
        # Errors of the connection belong to the library beneath the hub's, which has changed before.
        raise DownloadError(CONNECTION_FAILED) from error


def _make_progress_class(report: DownloadProgress) -> Any:
    from huggingface_hub.utils import tqdm

    class Progress(tqdm):
        """A progress bar that passes its numbers on and draws nothing."""

        def __init__(self, *_: Any, total: int | None = None, initial: int = 0, **__: Any) -> None:
            super().__init__(disable=True)
            self.size, self.done = total, initial

        def update(self, n: float | None = 1) -> bool | None:
            self.done += int(n or 0)
            report(self.done, self.size)
            return None

    return Progress


def _translate_refusal(error: BaseException | None) -> DownloadError:
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError

    if isinstance(error, FileMetadataError):
        return DownloadError("the server does not answer like the Hugging Face hub")
    if not isinstance(error, HfHubHTTPError) or error.response is None:
        return DownloadError(CONNECTION_FAILED)
    status = error.response.status_code
    reason = STATUS_REASONS.get(status, error.response.reason_phrase.lower())
    return DownloadError(f"the server answered {status}: {reason}", status)
