"""Libraries that a plain installation lacks."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Literal

from segdsl.diagnostics import fail


def require(modules: Sequence[str], what: str, extra: Literal["int8", "onnx"]) -> None:
    """Raises SegError (`int8-not-installed`, `onnx-not-installed`) where one of ``modules`` is missing, which ``what``
    needs and our ``extra`` brings."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if not missing:
        return
    slug = "int8-not-installed" if extra == "int8" else "onnx-not-installed"
    names = " and ".join(f"`{name}`" for name in missing)
    verb = "is" if len(missing) == 1 else "are"
    raise fail(
        slug, f"{what} needs {names}, which {verb} not installed", f'install it: `pip install "segdsl[{extra}]"`'
    )
