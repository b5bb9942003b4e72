"""A whole checked program: one frozen record per section, the graph, and the source span of every setting."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import AfterValidator, Field

from segdsl.diagnostics import Diagnostic, Span
from segdsl.diagnostics.aliases import Aliases, register_aliases
from segdsl.ir.data_format import DEFAULT_FORMAT, DataFormatName
from segdsl.ir.families import (
    Augmentation,
    Averager,
    Keeper,
    Loss,
    Optimizer,
    Remap,
    Sampler,
    Schedule,
    Stopper,
)
from segdsl.ir.fields import NaturalFloat, NaturalInt, PositiveFloat, PositiveInt, Probability, VisibleName
from segdsl.ir.file_pattern import parse_file_pattern
from segdsl.ir.graph import Graph
from segdsl.ir.labels import VOID_ID, Merges, relabel_classes
from segdsl.ir.monitor import Monitor
from segdsl.ir.values import Duration, GraphPath, Memory, OrSingle, Quantity, Range, Size
from segdsl.ir.word import Record, Word


def _validate_file_pattern(value: str) -> str:
    """Validate a folder inside the dataset, or a pattern of the files in it."""
    parse_file_pattern(value, default_folder=".")
    return value


def _validate_mask_values(value: Range) -> Range:
    """Validate integers that fit into an 8-bit mask."""
    if not (0 <= value.low <= value.high <= 255 and value.low == int(value.low) and value.high == int(value.high)):
        raise ValueError("must be integers from 0 to 255, or ranges of them")
    return value


def _validate_rising_range(value: Range) -> Range:
    """Validate a range whose lower end is below its upper end."""
    if not value.low < value.high:
        raise ValueError("lower end must be below upper end")
    return value


def _validate_natural_amount(value: Quantity) -> Quantity:
    """Validate an amount that is not negative."""
    if value.value < 0:
        raise ValueError("must be 0 or more")
    return value


FilePlace = Annotated[str, AfterValidator(_validate_file_pattern)]
"""A folder inside the dataset, or a pattern: `masks/{subset}`, `{name}_mask.png`."""
MaskValues = Annotated[Range, OrSingle(), AfterValidator(_validate_mask_values)]
"""Mask values: `7`, or `0..127`."""
MemoryAmount = Annotated[Memory, AfterValidator(_validate_natural_amount)]
"""An amount of memory, 0 included."""
Precision = Literal["fp32", "bf16", "fp16", "auto"]
"""Single or half precision; `auto` uses the half precision that the GPU supports best, and `fp32` on a CPU."""
register_aliases("fp16", "float16 half amp mixed 16 16_mixed f16 true")
register_aliases("bf16", "bfloat16 bf16_mixed bf16_true")
register_aliases("fp32", "float32 single full float 32 32_true f32 false")


class Exporter(Word, abstract=True):
    """A file format of exported models.

    ``suffix`` is the extension of its files, ``companions`` those of files that belong to them. ``runtime`` and
    ``writer`` are the classes that run and write such files, as `module:name`: a `RuntimeModel` of
    ``segdsl.inference.models.model`` and a `Writer` of ``segdsl.export.writer``.
    """

    kind: ClassVar[str] = "exporter"
    suffix: ClassVar[str] = ""
    companions: ClassVar[tuple[str, ...]] = ()
    runtime: ClassVar[str] = ""
    writer: ClassVar[str] = ""
    needs_background: ClassVar[bool] = False
    """Whether channel 0 must be the background, so that another class 0 gets an empty channel before it."""
    size: Literal["static", "dynamic"] = "static"
    """Accept images of `data.input_size` only, which is fastest, or of any height and width that the network takes."""
    normalize: bool = False
    """Normalize pixels from 0 to 255 inside the model; otherwise the caller must normalize them."""
    prediction: Literal["soft", "hard"] = "soft"
    """Output the softmax over the classes, [1, classes, H, W], or the ids of the best classes, [1, H, W], which
    openvino-model-api cannot read. A soft OpenVINO model whose class 0 is not the background has an empty channel
    before the first class, as openvino-model-api requires; `segdsl show MODEL.xml` lists the channels."""


class OpenVINOExporter(Exporter, abstract=True):
    """A variant of an OpenVINO model, the one that every export writes."""

    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """Storage of the weights. `fp32` stores them as trained and `fp16` in half the bytes; either way the device chooses
    the precision it computes in. `int8` stores 8 bits per weight, and most layers also compute in 8 bits."""
    calibration: PositiveInt = 64
    """Number of training images, evenly spaced over the subset, that set the value ranges of the 8-bit layers."""


class OnnxExporter(Exporter, abstract=True):
    """A variant of an ONNX model."""


class Section(Record):
    """The base class of all sections."""


class TrainSubset(Section):
    """`data.train`: the training images."""

    subset: Annotated[str, Aliases("split phase")] = "train"
    """Name of the subset in the dataset."""
    batch: Annotated[
        PositiveInt,
        Aliases(
            "batch_size bs samples_per_gpu samples_per_device per_device_train_batch_size train_batch_size minibatch"
        ),
    ] = 8
    """Images per step."""
    workers: Annotated[
        NaturalInt, Aliases("num_workers n_workers workers_per_gpu dataloader_num_workers num_threads")
    ] = 2
    """Processes that load and augment images; 0 loads in the main process."""
    sampler: Sampler | None = None
    """How often an epoch uses each image; by default once."""
    augment: Annotated[
        dict[str, Augmentation],
        Aliases("augmentation augmentations augmentor transforms transform pipeline train_pipeline"),
    ] = Field(default_factory=dict)
    """Named augmentation steps, applied in the order in which they first appear."""


class EvalSubset(Section):
    """`data.val`: the validation images."""

    subset: str = "val"
    """Name of the subset in the dataset."""
    batch: PositiveInt = 8
    """Images scored at a time."""
    workers: NaturalInt = 2
    """Processes that load images; 0 loads in the main process."""


class Data(Section):
    """`data`: the images and masks, and the meaning of the mask values."""

    root: Annotated[str | None, Aliases("data_root data_dir dataset_root root_dir dataset path data_path dir")] = None
    """Folder of the dataset, relative to the program; `--data` overrides it."""
    format: DataFormatName = DEFAULT_FORMAT
    """Layout of the dataset folder; `auto` detects it, and fails if two layouts match."""
    classes: Annotated[
        tuple[str, ...] | None, Aliases("class_names labels names label_names categories num_classes nc")
    ] = None
    """Class names in the order of their ids; by default they are read from the dataset."""
    ignore: Annotated[int, Ge(0), Le(255), Aliases("ignore_index ignore_label ignore_value")] = 255
    """Mask value of ignored pixels, which are neither learned nor scored."""
    exclude: tuple[str, ...] = ()
    """Classes that are not learned: their pixels are ignored."""
    remap: tuple[Remap, ...] = ()
    """Classes to merge or rename. Everywhere else, `data.classes` means the classes that remain."""
    background: VisibleName | None = None
    """Class of pixels that no polygon covers, in formats that draw masks; "void" ignores them."""
    values: tuple[MaskValues, ...] | None = None
    """Mask values of each class in the order of `classes`: a number or a range; by default the class id."""
    images: FilePlace = "images"
    """Folder of the images in each subset, or a pattern such as `images/{subset}`, `{name}_rgb.jpg`."""
    masks: FilePlace = "masks"
    """Folder of the masks in each subset, or a pattern such as `masks/{subset}`, `{name}_mask.png`."""
    input_size: Annotated[
        Size, Aliases("imgsz img_size image_size resolution input_shape img_scale patch_size crop_size size")
    ] = Size(512, 512)
    """Height x width of the network input."""
    levels: Annotated[Range, AfterValidator(_validate_rising_range)] | None = None
    """Pixel values that become black and white; by default the full range of 8 or 16 bits."""
    normalize: Annotated[Literal["imagenet", "none"], Aliases("normalization img_norm_cfg")] = "imagenet"
    """Normalization of pixels: ImageNet's mean and standard deviation, or only a division by 255."""
    cache: MemoryAmount | None = None
    """Memory for decoded images, shared by all processes; by default a quarter of free memory; `0 GiB` disables it."""
    train: TrainSubset = Field(default_factory=lambda: TrainSubset.build_unchecked({}))
    """The training subset."""
    val: Annotated[EvalSubset, Aliases("valid validation dev test val_dataloader")] = Field(
        default_factory=lambda: EvalSubset.build_unchecked({})
    )
    """The validation subset."""

    @property
    def merges(self) -> Merges:
        """`remap` as pairs of class names and the class that they become."""
        return [(word.classes, word.into) for word in self.remap]


class Train(Section):
    """`train`: the optimization of the weights."""

    loss: Annotated[Loss | None, Aliases("criterion loss_fn loss_decode objective losses")] = None
    """The loss to minimize."""
    optimizer: Annotated[Optimizer | None, Aliases("optim optimiser optim_wrapper")] = None
    """The update rule."""
    schedule: Annotated[
        tuple[Schedule, ...], Aliases("scheduler lr_scheduler lr_schedule lr_config param_scheduler sched")
    ] = ()
    """The learning rate over time, as a chain of schedules."""
    monitor: Annotated[Monitor, Aliases("metric save_best main_metric watch best_metric")] = "val.dice"
    """The score for the best checkpoint, the plateau schedule and the stopper: over all classes, without the background
    (`val.foreground.…`), or of one class, such as `val.dice.car` or `"val.iou.traffic light"`."""
    stop: Annotated[Stopper | None, Aliases("early_stopping early_stop stopper")] = None
    """When to stop before `epochs`."""
    keep: Annotated[
        Keeper | None, Aliases("checkpoint checkpoints checkpointing checkpoint_config save_checkpoint save_top_k")
    ] = None
    """Which checkpoints to keep."""
    ema: Annotated[Averager | None, Aliases("use_ema model_ema with_ema averaging")] = None
    """An average of the weights to validate, save and export instead of the latest weights."""
    accumulate: Annotated[
        PositiveInt,
        Aliases(
            "accumulate_grad_batches gradient_accumulation_steps accumulation_steps grad_accum accumulation accum_iter"
        ),
    ] = 1
    """Batches per optimizer step."""
    clip: Annotated[
        PositiveFloat | None,
        Aliases("clip_grad grad_clip gradient_clip gradient_clip_val clip_grad_norm max_grad_norm max_norm"),
    ] = None
    """Maximum norm of the gradient; a larger gradient is scaled down to it (Pascanu et al., 2013)."""
    precision: Annotated[Precision, Aliases("dtype half")] = "fp32"
    """Precision of a training step; loss, weights and validation always use single precision."""
    epochs: Annotated[
        PositiveInt, Aliases("num_epochs n_epochs max_epochs total_epochs max_epoch nepochs num_train_epochs")
    ] = 100
    """Maximum number of passes over the training subset."""
    seed: Annotated[NaturalInt, Aliases("random_seed manual_seed random_state")] = 0
    """Seed of all random numbers of the run."""
    freeze: Annotated[
        tuple[GraphPath, ...], Aliases("frozen freeze_backbone frozen_stages frozen_layers freeze_layers")
    ] = ()
    """Paths of the graph's parts that are not trained."""


class Eval(Section):
    """`eval`: how `segdsl eval` scores a trained model."""

    scale: Literal["image", "input"] = "image"
    """Compare at the size of the image, or at the size of the network input."""
    tile: Annotated[Size | None, Aliases("window window_size tile_size sliding_window sliding_window_size")] = None
    """Height x width of a sliding window, each resized to `data.input_size`; with that size as the value, pixels are
    not resampled. By default the whole image is resized."""
    overlap: Annotated[float, Ge(0), Le(0.9), Aliases("tile_overlap")] = 0.25
    """Minimum fraction of a window that overlaps the next one; predictions are blended there."""
    flip: Annotated[bool, Aliases("tta hflip_tta")] = False
    """Predict every window mirrored as well, and average the probabilities."""
    scales: Annotated[tuple[Annotated[float, Ge(0.1), Le(10)], ...], MinLen(1)] = (1.0,)
    """Predict the image at these multiples of its size, in windows, and average the probabilities."""
    boundary: Annotated[float, Gt(0)] | None = None
    """Tolerance of the boundary F1: in pixels from 1 on, below 1 as a fraction of the diagonal, such as 0.0075 (Csurka
    et al., 2013). By default it is not computed."""


class Tolerance(Section):
    """`export.tolerance`: limits on the deviation from the trained model; an export beyond them is not written."""

    pixels: Probability = 1e-4
    """Maximum fraction of pixels with a different class in single precision; ties of two classes do not count."""
    dice: Probability = 0.01
    """Maximum drop of the macro Dice on the validation subset, in any precision."""
    logits: PositiveFloat | None = None
    """Maximum error of a logit in single precision, relative to the standard deviation of all logits; by default it is
    reported but not limited."""


class Export(Section):
    """`export`: the exported models."""

    openvino: OpenVINOExporter | None = None
    """The OpenVINO model."""
    onnx: OnnxExporter | None = None
    """An additional ONNX model; by default none is written."""
    also: tuple[Exporter, ...] = ()
    """Further models, such as a second variant of a format: `[ONNX(size = dynamic)]`."""
    images: PositiveInt | None = None
    """Number of validation images, evenly chosen, for comparing export and trained model; by default all."""
    tolerance: Tolerance = Field(default_factory=lambda: Tolerance.build_unchecked({}))
    """Limits on the deviation from the trained model."""


class Source(Record):
    """The text of a source file; ``digest`` is its SHA-256."""

    text: str
    digest: str


class ModelSource(Record):
    """The source of a program's model without imports: the doc comment, the blocks in use, and the model's call."""

    doc: str = ""
    blocks: tuple[str, ...] = ()
    call: str = ""


class Program(Record):
    """A checked program.

    ``name`` is the file name without its suffix; ``resolved`` is the whole program as one formatted `.seg` text without
    imports, rendered from the sections and from ``model_source``; ``spans`` maps the path of every setting
    (`train.optimizer.lr`) to its source; ``warnings`` come from the lints; ``assumed_classes`` means that
    `data.classes` is missing and two classes were assumed. ``weights`` maps parts of the graph to the source of their
    weights; with ``adapt_weights``, filters over the image may be changed to fit its channels (`weights.adapt`).
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
    model_source: ModelSource = Field(default_factory=lambda: ModelSource.build_unchecked({}))
    resolved: str = ""
    assumed_classes: bool = False
    warnings: tuple[Diagnostic, ...] = ()

    @property
    def void(self) -> int:
        """The id of ignored pixels in the masks that the program works with."""
        # With `data.values`, masks are converted to ids, and `data.ignore` is a mask value, not an id.
        return self.data.ignore if self.data.values is None else VOID_ID

    @property
    def channels(self) -> int:
        """The number of image channels that the model takes."""
        return int(str(next(iter(self.graph.inputs.values()))[1]))

    @property
    def classes(self) -> tuple[str, ...]:
        """The learned classes in the order of their ids, or two placeholders without `data.classes`."""
        if self.data.classes is None:
            return ("class_0", "class_1")
        return relabel_classes(self.data.classes, self.data.exclude, self.data.merges).classes


SECTIONS: dict[str, type[Section]] = {"data": Data, "train": Train, "eval": Eval, "export": Export}
"""The sections with fixed keys. (The keys of `weights` are paths of the graph, and `model` is a component.)"""
register_aliases("data", "dataset datasets datamodule dataloader dataloaders")
register_aliases("model", "net network arch architecture segmentor")
register_aliases(
    "weights", "pretrained checkpoint_path load_from init_cfg init_from pretrained_weights loss_weight loss_weights"
)
register_aliases("train", "training trainer fit training_args train_cfg runner run learn")
register_aliases("eval", "test evaluate evaluation test_cfg evaluator score val validate validation valid")
register_aliases("export", "deploy deployment onnx_export")
RESERVED_SECTIONS = ("sweep",)
"""Sections reserved for a later version."""

__all__ = [
    "RESERVED_SECTIONS", "SECTIONS", "Augmentation", "Averager", "Data", "Duration", "Eval", "EvalSubset", "Export",
    "Exporter", "Keeper", "Loss", "MaskValues", "ModelSource", "Monitor", "NaturalFloat", "NaturalInt", "OnnxExporter",
    "OpenVINOExporter", "Optimizer", "PositiveFloat", "PositiveInt", "Precision", "Probability", "Program", "Remap",
    "Sampler", "Schedule", "Section", "Source", "Stopper", "Tolerance", "Train", "TrainSubset",
]  # fmt: skip
