"""Optional dependencies: libraries that a plain installation does not include."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from segdsl.diagnostics import fail


def require_modules(modules: Sequence[str], feature: str, extra: str, slug: str) -> None:
    """Check that the ``modules`` needed for ``feature`` are installed; our ``extra`` includes them.

    Raises SegError with ``slug``.
    """
    # Looked up without importing them: some take seconds to load.
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if not missing:
        return
    names = " and ".join(f"`{name}`" for name in missing)
    verb = "is" if len(missing) == 1 else "are"
    raise fail(slug, f"{feature} needs {names}, which {verb} not installed", f'run `pip install "segdsl[{extra}]"`')
