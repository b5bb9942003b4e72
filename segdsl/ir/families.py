"""The families of words that the sections take, and what every member of a family answers.

Code that uses a word asks it through these methods, and never for its class: so a new member is complete once it
answers them, and its implementation, if it needs one, is registered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from annotated_types import MinLen

from segdsl.diagnostics.aliases import Aliases, register_aliases
from segdsl.ir.fields import PositiveFloat, PositiveInt, VisibleName
from segdsl.ir.values import Horizon, Quantity, Size
from segdsl.ir.word import Word

ClassWeights = Annotated[
    tuple[PositiveFloat, ...] | Literal["auto"] | None,
    Aliases("class_weight weight"),
    Aliases("alpha", "it takes one number per class"),
]
"""One number per class that is learned, in the order of the class ids. `auto` is counted in the training subset."""
register_aliases("auto", "balanced median_frequency")
Reduction = Literal["valid", "all", "images"]
"""What the loss of a batch is a mean over: its pixels that are not ignored, all of its pixels, or its images."""


class Augmentation(Word, abstract=True):
    """One step of the training pipeline, applied to image and mask together."""

    kind: ClassVar[str] = "augmentation"
    gallery_arguments: ClassVar[Mapping[str, Any]] = {}
    """Arguments for the example image in the reference; four draws should be enough to see the effect."""

    @classmethod
    def make_gallery_example(cls) -> Self:
        """Return the step with the arguments of its example image, applied to every image unless they say otherwise."""
        certain = {"p": 1.0} if "p" in cls.model_fields else {}
        return cls(**{**certain, **cls.gallery_arguments})

    @property
    def turns_upside_down(self) -> bool:
        """Whether an image may come out upside down."""
        return False

    @property
    def swaps_sides(self) -> bool:
        """Whether an image may come out mirrored."""
        return False

    @property
    def upright_help(self) -> str:
        """The remedy for images that must stay upright."""
        return "remove it"

    @property
    def gray_arguments(self) -> str:
        """Arguments that save work on gray images, which have no color to change; "" if this step has none to save."""
        return ""

    def get_crop_size(self, input_size: Size) -> Size | None:
        """Return the size of the window that is cut out of the image without resizing it, or None."""
        return None

    def list_class_names(self) -> tuple[str, ...]:
        """Return the names of classes among the arguments."""
        return ()


class Loss(Word, abstract=True):
    """The function that training minimizes.

    Fields of the type :data:`ClassWeights` are filled in before training if they are `auto`.
    """

    kind: ClassVar[str] = "loss"

    def get_reduction(self) -> Reduction:
        """Return what the loss of a batch is a mean over, which is how the batches of a step are weighted."""
        # No default: a wrong one would train with wrong weights, silently.
        raise NotImplementedError

    def iterate_terms(self) -> Iterator[tuple[float, Loss]]:
        """Yield the losses that this one adds up, with their weights: only itself unless it is a sum."""
        yield 1.0, self

    def get_class_weights(self) -> dict[str, tuple[float, ...] | Literal["auto"]]:
        """Return the class weights that are set, by the name of their field."""
        plain = get_args(ClassWeights)[0]
        names = [name for name, info in type(self).model_fields.items() if info.annotation == plain]
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def needs_class_weights(self) -> bool:
        """Return whether this loss, or one inside it, has class weights that are `auto`."""
        return any("auto" in loss.get_class_weights().values() for _, loss in self.iterate_terms())

    def replace_auto_weights(self, weights: Sequence[float]) -> Self:
        """Return the loss with ``weights`` in place of all class weights that are `auto`."""
        names = [name for name, value in self.get_class_weights().items() if value == "auto"]
        return self.model_copy(update=dict.fromkeys(names, tuple(weights))) if names else self

    @classmethod
    def __pydantic_init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if not abstract and cls.get_reduction is Loss.get_reduction and cls.iterate_terms is Loss.iterate_terms:
            raise TypeError(f"the loss {cls.__name__} does not state its reduction")


class Optimizer(Word, abstract=True):
    """An update rule; ``target`` is the class that implements it, as `module:name`.

    Its fields are the arguments of that class, except `decay` and `groups`, which every optimizer has.
    """

    kind: ClassVar[str] = "optimizer"
    target: ClassVar[str] = ""

    @classmethod
    def __pydantic_init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        missing = {"lr", "weight_decay", "decay", "groups"} - set(cls.model_fields)
        if not abstract and (missing or not cls.target):
            raise TypeError(f"the optimizer {cls.__name__} lacks {', '.join(sorted(missing)) or 'its target'}")


class Schedule(Word, abstract=True):
    """A learning-rate schedule; several are chained with `->`, each starting where the previous one ends."""

    kind: ClassVar[str] = "schedule"
    is_warmup: ClassVar[bool] = False
    """Whether the learning rate is lower than the optimizer's until this schedule ends."""
    follows_score: ClassVar[bool] = False
    """Whether the factor depends on the monitored score."""

    def get_length(self) -> Quantity | None:
        """Return the duration, or None if it is the rest of the run: the field `over`, if there is one."""
        return getattr(self, "over", None)

    def get_patience(self) -> Quantity | None:
        """Return how long the monitored score may fail to improve before the rate drops, or None if it has no say."""
        return None

    def list_drops(self) -> tuple[Quantity, ...]:
        """Return when the rate drops abruptly, counted from the start of this schedule."""
        return ()

    def ends_at_zero(self) -> bool:
        """Return whether the learning rate is 0 at the end and stays so."""
        return False

    def compute_end(self, start: int, horizon: Horizon) -> int | None:
        """Return the step at which the next schedule takes over if this one begins at ``start``, or None if it never
        ends."""
        length = self.get_length()
        return None if length is None else start + horizon.convert_to_steps(length)

    def compute_factor(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        """Return the factor for the base learning rate at ``step``, counted from 0 over the whole run (``step >=
        start``).

        ``history`` has the monitored score of at least every epoch that ended by ``step``.
        """
        raise NotImplementedError


class Stopper(Word, abstract=True):
    """A rule that stops a run early."""

    kind: ClassVar[str] = "stopper"

    def get_patience(self) -> Quantity | None:
        """Return how long the monitored score may fail to improve before the run ends, or None if it has no say."""
        return None

    def get_start(self) -> Quantity | None:
        """Return from when on epochs count, or None if it has no say."""
        return None

    def should_stop(self, history: Sequence[float], horizon: Horizon) -> bool:
        """Return whether the run ends after these epochs.

        ``history`` is the monitored score of each epoch, oriented so that larger is better.
        """
        raise NotImplementedError

    def describe_stop(self, monitor: str) -> str:
        """Return why the run was stopped: `val.dice did not improve for 10 epochs`."""
        return f"`{type(self).__name__}` ended it"


class Keeper(Word, abstract=True):
    """A rule for which checkpoints to keep."""

    kind: ClassVar[str] = "keeper"
    best: Annotated[PositiveInt, Aliases("save_top_k max_keep_ckpts")] = 1
    """Number of best epochs to keep: `best.safetensors`, `best-2.safetensors`, …"""
    last: bool = True
    """Also keep the last epoch, with the state needed to resume the run."""

    @property
    def can_resume(self) -> bool:
        """Whether the state needed to resume the run is ever saved."""
        return self.last

    def is_due(self, step: int, horizon: Horizon) -> bool:
        """Return whether to save the resume state after ``step``, counted from 1 over the whole run."""
        return False


class Averager(Word, abstract=True):
    """An average of the weights over the steps of a run."""

    kind: ClassVar[str] = "averager"

    def compute_decay(self, updates: int) -> float:
        """Return the share of the average that the next update keeps, after ``updates`` updates."""
        raise NotImplementedError


class Remap(Word, abstract=True):
    """A change of the classes by name."""

    kind: ClassVar[str] = "remap"
    classes: Annotated[tuple[str, ...], MinLen(1)]
    """Classes of the dataset."""
    into: VisibleName
    """The class that they become: one of the dataset's classes, or a new name."""


class Sampler(Word, abstract=True):
    """A rule for how often an epoch uses each training image."""

    kind: ClassVar[str] = "sampler"
