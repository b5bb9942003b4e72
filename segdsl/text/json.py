"""JSON from files that anyone may have written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def parse_json(text: str | bytes, pair_hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Parse JSON. Raises ValueError for anything else, and for what Python cannot hold: nesting of a thousand levels,
    integers of thousands of digits.

    ``pair_hook`` makes the value of an object from its pairs.
    """
    import json  # not at the top: most commands read none

    try:
        return json.loads(text, object_pairs_hook=pair_hook)
    except RecursionError:
        raise ValueError("the JSON is nested too deep") from None
