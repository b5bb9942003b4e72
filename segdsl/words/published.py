"""The weights that others have published, by name, and how a source of weights is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from segdsl.diagnostics import suggest


class Published(NamedTuple):
    """A file that its authors serve, for the model of that name.

    ``by`` says who trained it and on what, ``fills`` which part of the model it is for; ``layout`` is how its keys
    look, as far as that is known (a reader need not be told). ``sha256`` is its digest or the beginning of it, empty
    where none is published.
    """

    model: str
    by: str
    layout: str
    url: str
    sha256: str = ""
    fills: str = "backbone"


_OTX = (
    "https://storage.openvinotoolkit.org/repositories/openvino_training_extensions/models/custom_semantic_segmentation"
)
_OPENMMLAB = "https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segnext"
_META = "https://dl.fbaipublicfiles.com/dinov2"


def _lite_hrnet(model: str, file: str) -> Published:
    return Published(model, "OTX, ImageNet-1k", "keys behind `backbone.`", f"{_OTX}/{file}")


def _mscan(model: str, file: str) -> Published:
    # OpenMMLab's file names end in the first eight digits of the SHA-256; the others publish none.
    digest = file.rpartition("-")[2].removesuffix(".pth")
    return Published(model, "OpenMMLab, ImageNet-1k", "bare keys, a classifier", f"{_OPENMMLAB}/{file}", digest)


PUBLISHED = {
    "lite_hrnet_s": _lite_hrnet("LiteHRNetS", "litehrnetsv2_imagenet1k_rsc.pth"),
    "lite_hrnet_18": _lite_hrnet("LiteHRNet18", "litehrnet18_imagenet1k_rsc.pth"),
    "lite_hrnet_x": _lite_hrnet("LiteHRNetX", "litehrnetxv3_imagenet1k_rsc.pth"),
    "segnext_tiny": _mscan("SegNeXtT", "mscan_t_20230227-119e8c9f.pth"),
    "segnext_small": _mscan("SegNeXtS", "mscan_s_20230227-f33ccdf2.pth"),
    "segnext_base": _mscan("SegNeXtB", "mscan_b_20230227-3ab7d230.pth"),
    "dinov2-small-seg": Published(
        "DinoV2Seg", "Meta, LVD-142M", "bare keys, a mask token", f"{_META}/dinov2_vits14/dinov2_vits14_pretrain.pth"
    ),
}
"""What follows `otx:` in a source: OTX's names of its models, and the file that each of them starts from."""

Kind = Literal["none", "file", "published", "url", "hub"]
HASH = re.compile(r"[0-9a-f]{8,64}")
HUB = re.compile(r"hf://(?P<org>[\w.-]+)/(?P<repo>[\w.-]+?)(?:@(?P<revision>[\w./-]+?))?/(?P<file>[^@]+)")
HUB_FORM = "`hf://ORG/REPO/FILE`, or `hf://ORG/REPO@REVISION/FILE`"
OTHERS = {
    "timm": "timm's files lie on the Hugging Face hub: `hf://timm/NAME/model.safetensors`",
    "hub": "give the address of the file, `https://…`, or `hf://ORG/REPO/FILE`",
    "hf": f"write {HUB_FORM}",
    "torchvision": "give the address of the file: `https://download.pytorch.org/models/…`",
    "ftp": "fetch the file, and give its path",
    "s3": "fetch the file, and give its path",
    "file": "write the path without `file:`",
}
"""Spellings that other tools have, and what is written for them here."""


@dataclass(frozen=True, slots=True)
class WeightSource:
    """Where weights come from. ``text`` is what was written; ``url`` its address, empty for a file of this machine;
    ``sha256`` the digest or the beginning of it, where it is known."""

    text: str
    kind: Kind
    url: str = ""
    sha256: str = ""
    name: str = ""

    @property
    def is_remote(self) -> bool:
        return bool(self.url)


class SourceError(ValueError):
    """A source that is none: ``message`` says what is wrong, ``help`` what to write."""

    def __init__(self, message: str, help: str) -> None:
        super().__init__(message)
        self.message, self.help = message, help


def parse_source(text: str) -> WeightSource:
    """Reads a source of weights: `none`, a path, `otx:NAME`, `https://…`, `hf://ORG/REPO/FILE`.

    An address may end in `#sha256=DIGEST`, which the file is then held to. Raises :class:`SourceError`.
    """
    if not text.isprintable() and (text.startswith(("http", "hf:")) or "\0" in text):
        raise SourceError(
            "a source has characters that none may have", "in an address write them as `%` and two digits"
        )
    if not text.strip():
        raise SourceError("a source of weights is empty", "give the path of a file, a published name, or `none`")
    if text == "none":
        return WeightSource(text, "none")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):(?!\\)", text)  # one letter is a drive
    if scheme is None:
        return WeightSource(text, "file")
    known = scheme[1].lower()
    if known == "otx":
        return _published(text)
    if known in ("http", "https"):
        return _address(text)
    if known == "hf" and text.startswith("hf://"):
        return _hub(text)
    if known in OTHERS:
        raise SourceError(f"`{known}:` is no source of weights", OTHERS[known])
    if "//" in text or "/" not in text:
        remedy = "give a path, `otx:NAME`, `https://…` or `hf://ORG/REPO/FILE`; a path with a colon starts with `./`"
        raise SourceError(f"`{known}:` is no source of weights", remedy)
    return WeightSource(text, "file")


def _published(text: str) -> WeightSource:
    name = text[len("otx:") :]
    if not name:
        raise SourceError("`otx:` is followed by a name", suggest("", PUBLISHED, "names"))
    if name not in PUBLISHED:
        raise SourceError(f"there are no published weights `{name}`", suggest(name, PUBLISHED, "names"))
    entry = PUBLISHED[name]
    return WeightSource(text, "published", entry.url, entry.sha256, name)


def _address(text: str) -> WeightSource:
    from urllib.parse import urlsplit  # `check` of a program with a published name has no need of it

    url, digest = _split_digest(text)
    parts = urlsplit("")
    try:
        parts = urlsplit(url)
        complete = bool(parts.hostname) and parts.path.strip("/") and (parts.port or 1)
    except ValueError:  # a port that is no number, a host in half a bracket
        complete = False
    if complete and "@" in parts.netloc:
        raise SourceError("an address with a password in it would be written into every run", "leave it out")
    if not complete or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise SourceError(f"`{url}` is no address of a file", "write it whole: `https://HOST/PATH/FILE`")
    return WeightSource(text, "url", url, digest)


def _hub(text: str) -> WeightSource:
    plain, digest = _split_digest(text)
    found = HUB.fullmatch(plain)
    if found is None or ".." in plain or re.search(r"[\s?\x00-\x1f\x7f]", plain):
        raise SourceError(f"`{plain}` names no file of the Hugging Face hub", f"write {HUB_FORM}")
    revision = found["revision"] or "main"
    url = f"https://huggingface.co/{found['org']}/{found['repo']}/resolve/{revision}/{found['file']}"
    return WeightSource(text, "hub", url, digest)


def _split_digest(text: str) -> tuple[str, str]:
    url, _, fragment = text.partition("#")
    if not fragment:
        return url, ""
    digest = fragment.removeprefix("sha256=").lower()
    if not fragment.startswith("sha256=") or not HASH.fullmatch(digest):
        remedy = "write `#sha256=` and its digits (64, or the first 8 at least), or leave it out"
        raise SourceError(f"`#{fragment}` is no digest of a file", remedy)
    return url, digest
