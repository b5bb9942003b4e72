"""Optional dependencies: libraries that a plain installation does not include."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Literal

from segdsl.diagnostics import fail


def require_modules(modules: Sequence[str], feature: str, extra: Literal["int8", "onnx"]) -> None:
    """Check that the ``modules`` needed for ``feature`` are installed; our ``extra`` includes them.

    Raises SegError (`int8-not-installed`, `onnx-not-installed`).
    """
    # Looked up without importing them: some take seconds to load.
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if not missing:
        return
    slug = "int8-not-installed" if extra == "int8" else "onnx-not-installed"
    names = " and ".join(f"`{name}`" for name in missing)
    verb = "is" if len(missing) == 1 else "are"
    raise fail(slug, f"{feature} needs {names}, which {verb} not installed", f'run `pip install "segdsl[{extra}]"`')
