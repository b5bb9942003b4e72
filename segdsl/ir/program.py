"""A whole checked program as data: one frozen record for each section, the graph, and where everything was said."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import AfterValidator, Field

from segdsl.diagnostics import Diagnostic, Span
from segdsl.ir.graph import Graph
from segdsl.ir.labels import VOID_ID, Merges, has_control_character, relabelled
from segdsl.ir.monitor import Monitor
from segdsl.ir.values import Duration, GraphPath, Memory, OrSingle, Quantity, Range, Size
from segdsl.ir.word import Record, Word

PositiveInt = Annotated[int, Gt(0)]
NaturalInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NaturalFloat = Annotated[float, Ge(0)]
Probability = Annotated[float, Ge(0), Le(1)]


def _named(value: str) -> str:
    """A validator: a name that can be seen."""
    if not value.strip():
        raise ValueError("must not be empty")
    if has_control_character(value):
        raise ValueError("must be without line breaks and other control characters")
    return value


def _folder_name(value: str) -> str:
    """A validator: a folder in another, by its name or a path downwards."""
    if not value.strip() or value.startswith("/") or ".." in value.split("/") or "\\" in value:
        raise ValueError("must be the name of a folder in the data set")
    return value


def _mask_values(value: Range) -> Range:
    """A validator: whole numbers that an 8-bit mask can hold."""
    if not (0 <= value.low <= value.high <= 255 and value.low == int(value.low) and value.high == int(value.high)):
        raise ValueError("must be whole numbers from 0 to 255, or ranges of them")
    return value


def _rising(value: Range) -> Range:
    """A validator: two numbers, the first being smaller."""
    if not value.low < value.high:
        raise ValueError("must go from a smaller number to a larger")
    return value


def _natural_amount(value: Quantity) -> Quantity:
    """A validator: an amount that can be had."""
    if value.value < 0:
        raise ValueError("must be 0 or more")
    return value


Named = Annotated[str, AfterValidator(_named)]
FolderName = Annotated[str, AfterValidator(_folder_name)]
MaskValues = Annotated[Range, OrSingle(), AfterValidator(_mask_values)]
"""Values of a mask: `7`, or `0..127`."""
MemoryAmount = Annotated[Memory, AfterValidator(_natural_amount)]
"""An amount of memory, 0 included."""
DataFormat = Literal[
    "common_semantic_segmentation", "voc_segmentation", "coco_instances", "datumaro", "cityscapes",
    "kitti_segmentation", "ade20k", "mapillary_vistas", "folders", "auto",
]  # fmt: skip
"""How a data set lies on disk; `segdsl/data/formats/registry.py` reads each of them."""
Precision = Literal["fp32", "bf16", "fp16", "auto"]
"""Single precision, or the two half ones; `auto` takes the half one that the device is made for, and none on a CPU."""


class Augmentation(Word, abstract=True):
    """One step of the training pipeline, on image and mask together."""

    kind: ClassVar[str] = "augmentation"


class Loss(Word, abstract=True):
    """What training minimises."""

    kind: ClassVar[str] = "loss"


class Optimizer(Word, abstract=True):
    """An update rule; ``target`` is the class that realises it, as `module:name`."""

    kind: ClassVar[str] = "optimizer"
    target: ClassVar[str] = ""


class Schedule(Word, abstract=True):
    """A learning-rate law; several are chained with `->`, each beginning where the one before ends."""

    kind: ClassVar[str] = "schedule"


class Stopper(Word, abstract=True):
    """A rule that ends a run early."""

    kind: ClassVar[str] = "stopper"


class Keeper(Word, abstract=True):
    """A rule that says which checkpoints stay."""

    kind: ClassVar[str] = "keeper"


class Averager(Word, abstract=True):
    """A rule that averages the weights over the steps of a run."""

    kind: ClassVar[str] = "averager"


class Remap(Word, abstract=True):
    """A change of the label space by name."""

    kind: ClassVar[str] = "remap"
    classes: Annotated[tuple[str, ...], MinLen(1)]
    """Classes that masks declare."""
    into: Named
    """What they become: one of the declared classes, or a new name."""


class Sampler(Word, abstract=True):
    """How often an epoch uses each training image."""

    kind: ClassVar[str] = "sampler"


class AnyExporter(Word, abstract=True):
    """A form in which the model is shipped."""

    kind: ClassVar[str] = "exporter"
    size: Literal["static", "dynamic"] = "static"
    """Images of `data.input_size` alone, which runs fastest, or of any height and width that the network takes."""
    normalize: bool = False
    """Takes pixels from 0 to 255 and normalises them inside of the model; else whoever calls it does that."""
    prediction: Literal["soft", "hard"] = "soft"
    """The softmax over the classes, [1, classes, H, W], or the ids of the best ones, [1, H, W], which
    openvino-model-api does not read. In a soft OpenVINO model whose class 0 is not the background an empty channel
    stands before the first class, as openvino-model-api wants it; `segdsl show MODEL.xml` says what is where."""


class Exporter(AnyExporter, abstract=True):
    """A form of an OpenVINO model."""


class OnnxExporter(AnyExporter, abstract=True):
    """A form of an ONNX model."""


class Section(Record):
    """The base of every section. ``free`` sections take names of the author's choice."""


class TrainSubset(Section):
    """`data.train`: the images that are learnt from."""

    subset: str = "train"
    """Name of the subset in the data set."""
    batch: PositiveInt = 8
    """Images in one step."""
    workers: NaturalInt = 2
    """Processes that load and augment; 0 loads in the main process."""
    sampler: Sampler | None = None
    """How often an epoch uses each image; left out, once."""
    augment: dict[str, Augmentation] = Field(default_factory=dict)
    """Named steps, applied in the order in which they first appear."""


class EvalSubset(Section):
    """`data.val`: the images that are only scored."""

    subset: str = "val"
    """Name of the subset in the data set."""
    batch: PositiveInt = 8
    """Images scored at once."""
    workers: NaturalInt = 2
    """Processes that load; 0 loads in the main process."""


class Data(Section):
    """`data`: where images and masks come from, and what the mask values mean."""

    root: str | None = None
    """Folder of the data set, relative to the program; `--data` overrides it."""
    format: DataFormat = "common_semantic_segmentation"
    """Layout of the folder; `auto` takes the one that it looks like, and refuses to guess between two."""
    classes: tuple[str, ...] | None = None
    """Names of the classes, in the order of their ids; left out, they are read from the data set."""
    ignore: Annotated[int, Ge(0), Le(255)] = 255
    """Mask value that is neither learnt nor scored."""
    exclude: tuple[str, ...] = ()
    """Classes that are not learnt: their pixels become void."""
    remap: tuple[Remap, ...] = ()
    """Classes that are merged or renamed, by name. Everywhere else `data.classes` means what is left."""
    background: Named | None = None
    """Class of the pixels that no polygon covers, where masks are drawn; "void" for none."""
    values: tuple[MaskValues, ...] | None = None
    """Mask values of each class, in the order of `classes`: a number or a range; left out, the value is the id."""
    images: FolderName = "images"
    """Name of the folders of images, for the format `folders`."""
    masks: FolderName = "masks"
    """Name of the folders of masks, for the format `folders`."""
    input_size: Size = Size(512, 512)
    """Height x width of what the network sees."""
    levels: Annotated[Range, AfterValidator(_rising)] | None = None
    """Pixel values that become black and white; left out, the whole range of 8 or 16 bits."""
    normalize: Literal["imagenet", "none"] = "imagenet"
    """Mean and deviation that are taken out of the pixels: ImageNet's, or a plain division by 255."""
    cache: MemoryAmount | None = None
    """Memory for decoded images, which all processes share; left out, a quarter of what is free; `0 GiB` for none."""
    train: TrainSubset = Field(default_factory=lambda: TrainSubset.trusted({}))
    """The training subset."""
    val: EvalSubset = Field(default_factory=lambda: EvalSubset.trusted({}))
    """The validation subset."""

    @property
    def merges(self) -> Merges:
        """`remap` as names and what they become."""
        return [(word.classes, word.into) for word in self.remap]


class Train(Section):
    """`train`: how the weights are found."""

    loss: Loss | None = None
    """What is minimised."""
    optimizer: Optimizer | None = None
    """The update rule."""
    schedule: tuple[Schedule, ...] = ()
    """The learning rate over time, as a chain."""
    monitor: Monitor = "val.dice"
    """What the best checkpoint, the plateau and the stopper watch: a score over all classes, without the background
    (`val.foreground.…`), or of one class, such as `val.dice.car` or `"val.iou.traffic light"`."""
    stop: Stopper | None = None
    """When to end before `epochs`."""
    keep: Keeper | None = None
    """Which checkpoints stay."""
    ema: Averager | None = None
    """The average of the weights that is validated, kept and shipped in place of the last ones."""
    accumulate: PositiveInt = 1
    """Batches that make one optimizer step together."""
    clip: PositiveFloat | None = None
    """Largest norm of the gradient; a longer one is scaled down to it (Pascanu et al., 2013)."""
    precision: Precision = "fp32"
    """What a training step computes in; loss, weights and validation stay in single precision."""
    epochs: PositiveInt = 100
    """The upper limit of passes over the training subset."""
    seed: NaturalInt = 0
    """Start of every random number of the run."""
    freeze: tuple[GraphPath, ...] = ()
    """Parts of the graph that are not trained, by path."""


class Eval(Section):
    """`eval`: how a finished model is scored by `segdsl eval`."""

    scale: Literal["image", "input"] = "image"
    """Compare at the size of the image, or at the size that the network sees."""
    tile: Size | None = None
    """Height x width of the windows of an image that are shown to the network one by one, each stretched to
    `data.input_size`, which as a value here leaves pixels as they are; left out, the whole image is stretched."""
    overlap: Annotated[float, Ge(0), Le(0.9)] = 0.25
    """Least share of a window that the next one shows again; what both say is blended there."""
    flip: bool = False
    """Show every window mirrored too, and average the probabilities."""
    scales: Annotated[tuple[Annotated[float, Ge(0.1), Le(10)], ...], MinLen(1)] = (1.0,)
    """Show the image at these multiples of its size, in windows, and average the probabilities."""
    boundary: Annotated[float, Gt(0)] | None = None
    """Tolerance of the boundary F1: pixels from 1 on, below it a share of the diagonal, such as 0.0075 (Csurka et al.,
    2013); left out, it is not computed."""


class Tolerance(Section):
    """`export.tolerance`: how far an exported model may be from the trained one; beyond it, none is written."""

    pixels: Probability = 1e-4
    """Share of the pixels that may get another class in single precision, ties of two classes left out."""
    dice: Probability = 0.01
    """How much of the macro Dice on the validation subset may be lost, in any precision."""
    logits: PositiveFloat | None = None
    """Largest error of a logit in single precision, over the standard deviation of all; left out, it is only told."""


class Export(Section):
    """`export`: what is shipped."""

    openvino: Exporter | None = None
    """The OpenVINO model."""
    onnx: OnnxExporter | None = None
    """The ONNX model, written beside it; left out, there is none."""
    images: PositiveInt | None = None
    """Validation images that an export is compared with the trained model on, evenly chosen; left out, all."""
    tolerance: Tolerance = Field(default_factory=lambda: Tolerance.trusted({}))
    """How far it may be from the trained model."""


class Source(Record):
    """A text that the program was made from; ``digest`` is its SHA-256."""

    text: str
    digest: str


class Program(Record):
    """A checked program.

    ``name`` is the file's stem; ``resolved`` the whole program as one formatted `.seg` text without imports; ``spans``
    maps every path that was set (`train.optimizer.lr`) to where; ``warnings`` are the lints; ``assumed_classes`` says
    that `data.classes` was left out and two were assumed. ``weights`` are sources by the part that they fill, and
    ``adapt_weights`` whether filters over the image may be changed to fit its channels (`weights.adapt`).
    """

    name: str
    graph: Graph
    data: Data
    train: Train
    eval: Eval
    export: Export
    weights: dict[str, str] = Field(default_factory=dict)
    adapt_weights: bool = False
    sources: dict[str, Source] = Field(default_factory=dict)
    spans: dict[str, Span] = Field(default_factory=dict)
    resolved: str = ""
    assumed_classes: bool = False
    warnings: tuple[Diagnostic, ...] = ()

    @property
    def void(self) -> int:
        """The id of void, which `data.ignore` means everywhere else."""
        return self.data.ignore if self.data.values is None else VOID_ID

    @property
    def channels(self) -> int:
        """The channels of an image, as the model takes them."""
        return int(str(next(iter(self.graph.inputs.values()))[1]))

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that are learnt, in the order of their ids; placeholders where `data.classes` was left out."""
        if self.data.classes is None:
            return ("class_0", "class_1")
        return relabelled(self.data.classes, self.data.exclude, self.data.merges).classes


SECTIONS: dict[str, type[Section]] = {"data": Data, "train": Train, "eval": Eval, "export": Export}
"""The sections with declared keys; `weights` takes paths of the graph, `model` is a component."""
RESERVED_SECTIONS = ("sweep",)
"""Sections whose meaning comes with a later version."""

__all__ = [
    "RESERVED_SECTIONS", "SECTIONS", "AnyExporter", "Augmentation", "Averager", "Data", "Duration", "Eval",
    "EvalSubset", "Export", "Exporter", "Keeper", "Loss", "MaskValues", "Monitor", "NaturalFloat", "NaturalInt",
    "OnnxExporter", "Optimizer", "PositiveFloat", "PositiveInt", "Precision", "Probability", "Program", "Remap",
    "Sampler", "Schedule", "Section", "Source", "Stopper", "Tolerance", "Train", "TrainSubset",
]  # fmt: skip
