"""Fixtures of the tests of inference: a small run and its exported models."""

from exported_model import copied, data, fp16, fp32, home, made_run, run  # noqa: F401 - fixtures
