"""A stopper that segdsl does not have."""

from __future__ import annotations

from collections.abc import Sequence

from segdsl.ir.families import Stopper
from segdsl.ir.fields import Probability
from segdsl.ir.values import Horizon


class ScoreReached(Stopper):
    """End the run when the monitored score has reached `target`."""

    aliases = ("target_score stop_at",)
    usual_form = "ScoreReached(0.9)"

    target: Probability
    """The score that is enough."""

    def should_stop(self, history: Sequence[float], horizon: Horizon) -> bool:
        return any(score >= self.target for score in history)

    def describe_stop(self, monitor: str) -> str:
        return f"{monitor} reached {self.target:g}"
