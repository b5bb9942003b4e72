"""Values that an operator, a parameter or a note cannot take: one error each, of the right kind."""

from __future__ import annotations

from typing import Any

import pytest

BLOCK = """block Named(kind: string, n: int = 1) {
  in a
  in b

  out y = [a, b] -> Concat()
}
"""


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ("let a = x == 3", "wrong-type"),
        ("let a = ReLU() < 3", "wrong-type"),
        ('let a = "three" < 3', "wrong-type"),
        ("let a = true < 3", "wrong-type"),
        ("let a = (-2) ** 0.5", "wrong-type"),
        ("let a = 1e200 ** 3", "integer-bound"),
        ("let a = H / 1.5", "wrong-type"),
        ("let a = H ** 2", "wrong-type"),
        ("y = x ** 2", "wrong-type"),
        ('y = x + "three"', "wrong-type"),
        ('y = x -> Conv(48, 3x3) * "three"', "wrong-type"),
        ("y = x -> Conv(48, 3x3) * -1", "repeat-count"),
        ("y = x -> Named()", "missing-argument"),
        ('y = x -> Named("k")', "missing-argument"),
        ("y = x -> Named(3, b = x)", "wrong-type"),
        ('y = x -> Named("k", true, b = x)', "wrong-type"),
        ("out z: [B, 48, H, W] = [x, x]", "shape-note-false"),
        ("let a = 3\nlet a = 4", "rebinding"),
    ],
)
def test_a_value_is_refused(bench: Any, body: str, slug: str) -> None:
    assert [d.slug for d in bench.model_errors(body, BLOCK)] == [slug]
