"""Fixtures of the tests of lowering: handwritten graphs and the seven published models."""

from published_models import dinov2, published, two_threads  # noqa: F401 - fixtures
from sketches import drawn_model, sketch  # noqa: F401 - fixtures
