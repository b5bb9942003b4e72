"""Published weights by name, and the syntax of weight sources."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from segdsl.diagnostics import suggest_name


class PublicWeights(NamedTuple):
    """One weight file on its authors' server, for the model ``model``.

    ``by`` says who trained it and on which data; ``fills`` is the part of the model that it is for; ``layout``
    describes its keys, for documentation only. ``sha256`` is its digest or the first digits of it, empty if none is
    published.
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


def _make_lite_hrnet_entry(model: str, file: str) -> PublicWeights:
    return PublicWeights(model, "OTX, ImageNet-1k", "keys behind `backbone.`", f"{_OTX}/{file}")


def _make_mscan_entry(model: str, file: str) -> PublicWeights:
    # OpenMMLab's file names end in the first eight digits of the SHA-256; the other servers publish no digest.
    digest = file.rpartition("-")[2].removesuffix(".pth")
    return PublicWeights(model, "OpenMMLab, ImageNet-1k", "bare keys, a classifier", f"{_OPENMMLAB}/{file}", digest)


PUBLIC_WEIGHTS = {
    "lite_hrnet_s": _make_lite_hrnet_entry("LiteHRNetS", "litehrnetsv2_imagenet1k_rsc.pth"),
    "lite_hrnet_18": _make_lite_hrnet_entry("LiteHRNet18", "litehrnet18_imagenet1k_rsc.pth"),
    "lite_hrnet_x": _make_lite_hrnet_entry("LiteHRNetX", "litehrnetxv3_imagenet1k_rsc.pth"),
    "segnext_tiny": _make_mscan_entry("SegNeXtT", "mscan_t_20230227-119e8c9f.pth"),
    "segnext_small": _make_mscan_entry("SegNeXtS", "mscan_s_20230227-f33ccdf2.pth"),
    "segnext_base": _make_mscan_entry("SegNeXtB", "mscan_b_20230227-3ab7d230.pth"),
    "dinov2-small-seg": PublicWeights(
        "DinoV2Seg", "Meta, LVD-142M", "bare keys, a mask token", f"{_META}/dinov2_vits14/dinov2_vits14_pretrain.pth"
    ),
}
"""Names after `otx:` in a weight source: OTX's model names, with the file that each of these models starts from."""

Kind = Literal["none", "file", "published", "url", "hub"]
DIGEST_PATTERN = re.compile(r"[0-9a-f]{8,64}")
HUB_PATTERN = re.compile(r"hf://(?P<org>[\w.-]+)/(?P<repo>[\w.-]+?)(?:@(?P<revision>[\w./-]+?))?/(?P<file>[^@]+)")
HUB_FORM = "`hf://ORG/REPO/FILE`, or `hf://ORG/REPO@REVISION/FILE`"
FOREIGN_SCHEMES = {
    "timm": "timm's files are on the Hugging Face hub: write `hf://timm/NAME/model.safetensors`",
    "hub": "write the URL of the file, `https://…`, or `hf://ORG/REPO/FILE`",
    "hf": f"write {HUB_FORM}",
    "torchvision": "write the URL of the file: `https://download.pytorch.org/models/…`",
    "ftp": "download the file and write its path",
    "s3": "download the file and write its path",
    "file": "write the path without `file:`",
}
"""Sources of other tools, with the form to use here instead."""


@dataclass(frozen=True, slots=True)
class WeightSource:
    """A parsed weight source.

    ``text`` is the source as written in the program; ``url`` is empty for a local file; ``sha256`` is the expected
    digest or its first digits, empty if it is unknown.
    """

    text: str
    kind: Kind
    url: str = ""
    sha256: str = ""
    name: str = ""

    @property
    def is_remote(self) -> bool:
        return bool(self.url)


class SourceError(ValueError):
    """An invalid weight source: ``message`` says what is wrong, ``help`` what to write instead."""

    def __init__(self, message: str, help: str) -> None:
        super().__init__(message)
        self.message, self.help = message, help


FOREIGN_WEIGHTS = frozenset({"imagenet", "imagenet1k", "default", "coco", "pretrained", "true"})
"""What other frameworks call the weights that they choose themselves."""


def parse_source(text: str) -> WeightSource:
    """Parse a weight source: `none`, a path, `otx:NAME`, `https://…` or `hf://ORG/REPO/FILE`.

    A URL may end in `#sha256=DIGEST`, which the downloaded file must match. Raises :class:`SourceError`.
    """
    if not text.isprintable() and (text.startswith(("http", "hf:")) or "\0" in text):
        raise SourceError(
            "a weight source contains a control character", "in a URL, write it as `%` and two hexadecimal digits"
        )
    if not text.strip():
        raise SourceError("the weight source is empty", "write the path of a file, a published name, or `none`")
    if text == "none":
        return WeightSource(text, "none")
    # At least two letters: a single one is a Windows drive, as in `C:/weights/a.pth`.
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):(?!\\)", text)
    if scheme is None:
        return _parse_file_name(text)
    known = scheme[1].lower()
    if known == "otx":
        return _parse_public_name(text)
    if known in ("http", "https"):
        return _parse_address(text)
    if known == "hf" and text.startswith("hf://"):
        return _parse_hub_address(text)
    if known in FOREIGN_SCHEMES:
        raise SourceError(f"`{known}:` is not a supported weight source", FOREIGN_SCHEMES[known])
    # A scheme nobody knows: `xyz://…` and `xyz:name` are mistakes, but `a:b/c` may well be a file.
    if "//" in text or "/" not in text:
        remedy = "write a path, `otx:NAME`, `https://…` or `hf://ORG/REPO/FILE`; start a path with a colon with `./`"
        raise SourceError(f"`{known}:` is not a supported weight source", remedy)
    return WeightSource(text, "file")


def _parse_file_name(text: str) -> WeightSource:
    if text.lower() in FOREIGN_WEIGHTS:
        names = ", ".join(f"`otx:{name}`" for name in PUBLIC_WEIGHTS)
        raise SourceError(f"`{text}` does not name a file of weights", f"name one that fits the model: {names}")
    return WeightSource(text, "file")


def _parse_public_name(text: str) -> WeightSource:
    name = text[len("otx:") :]
    if not name:
        raise SourceError("the name after `otx:` is missing", suggest_name("", PUBLIC_WEIGHTS, "names"))
    if name not in PUBLIC_WEIGHTS:
        raise SourceError(f"unknown published weights `{name}`", suggest_name(name, PUBLIC_WEIGHTS, "names"))
    entry = PUBLIC_WEIGHTS[name]
    return WeightSource(text, "published", entry.url, entry.sha256, name)


def _parse_address(text: str) -> WeightSource:
    # Imported here for start-up time: checking a program with a published name does not need it.
    from urllib.parse import urlsplit

    url, digest = _split_digest(text)
    parts = urlsplit("")
    try:
        parts = urlsplit(url)
        complete = bool(parts.hostname) and parts.path.strip("/") and (parts.port or 1)
    except ValueError:
        # The port is not a number, or the host has an unmatched bracket.
        complete = False
    if complete and "@" in parts.netloc:
        # The source is copied into the lock file, the report and the metadata of exported models.
        raise SourceError("a URL with credentials would be saved in every run", "remove `USER:PASSWORD@`")
    if not complete or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise SourceError(f"`{url}` is not the URL of a file", "write the full URL: `https://HOST/PATH/FILE`")
    return WeightSource(text, "url", url, digest)


def _parse_hub_address(text: str) -> WeightSource:
    plain, digest = _split_digest(text)
    found = HUB_PATTERN.fullmatch(plain)
    if found is None or ".." in plain or re.search(r"[\s?\x00-\x1f\x7f]", plain):
        raise SourceError(f"`{plain}` does not name a file on the Hugging Face hub", f"write {HUB_FORM}")
    revision = found["revision"] or "main"
    url = f"https://huggingface.co/{found['org']}/{found['repo']}/resolve/{revision}/{found['file']}"
    return WeightSource(text, "hub", url, digest)


def _split_digest(text: str) -> tuple[str, str]:
    url, _, fragment = text.partition("#")
    if not fragment:
        return url, ""
    digest = fragment.removeprefix("sha256=").lower()
    if not fragment.startswith("sha256=") or not DIGEST_PATTERN.fullmatch(digest):
        remedy = "write `#sha256=` and 64 hexadecimal digits (or at least the first 8), or remove it"
        raise SourceError(f"`#{fragment}` is not a SHA-256 digest", remedy)
    return url, digest
