"""Fixtures of the tests of passes: handwritten graphs."""

from sketches import drawn_model, sketch  # noqa: F401 - fixtures
