"""An optimizer that segdsl does not have. Its implementation is torch's, which has no fused kernel."""

from __future__ import annotations

from segdsl.words.optimizers import Decay, DecayScope, Groups, LearningRate, Optimizer, WeightDecay


class RMSprop(Optimizer):
    """Divide the gradient by a running mean of its magnitude (Hinton, 2012)."""

    target = "torch.optim:RMSprop"
    aliases = ("rms_prop_tf",)

    lr: LearningRate = 1e-2
    """Learning rate, scaled by the schedule."""
    alpha: Decay = 0.99
    """Decay rate of the running mean."""
    weight_decay: WeightDecay = 0.0
    """L2 penalty, added to the gradient."""
    decay: DecayScope = "all"
    """What weight decay applies to."""
    groups: Groups = ()
    """Parts with a learning rate or weight decay of their own."""
