"""Fixtures of the tests of ops: handwritten graphs."""

from sketches import sketch  # noqa: F401 - fixtures
