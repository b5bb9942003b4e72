"""Settings, arguments and pipeline steps of other frameworks, with what to do instead."""

from __future__ import annotations

from segdsl.diagnostics.aliases import fold_name

# The names that other frameworks (mmsegmentation, Lightning, Ultralytics, OTX, ...) use for what segdsl sets elsewhere.
_FOREIGN_SETTINGS = {
    "device devices gpu gpus gpu_ids cuda accelerator": "choose the device on the command line: "
    "`segdsl train FILE --device cuda`",
    "resume resume_from resume_from_checkpoint auto_resume ckpt_path": "resume a run from the command line: "
    "`segdsl train FILE --out DIR --resume`",
    "out output output_dir out_dir work_dir save_dir log_dir run_dir default_root_dir project exp_name run_name name": (
        "name the run folder on the command line: `segdsl train FILE --out DIR`"
    ),
    "num_classes nc n_classes nclasses classes_num": "name the classes and pass their number to the model: "
    '`data.classes = ["background", "defect"]`, `model = LiteHRNetS(classes = len(data.classes))`',
    "max_iters max_steps num_iters total_iters total_steps iterations steps iters": "set the length of a run in "
    "epochs: `train.epochs = 40`",
    "warmup warmup_epochs warmup_iters warmup_steps warmup_ratio": "start the schedule with a warm-up: "
    "`train.schedule = Warmup(5 epochs) -> Poly()`",
    "verbose log_interval log_every_n_steps print_freq logger loggers tensorboard wandb plots": (
        "remove this setting; every run logs to `metrics.csv`, `tensorboard` and `report.html`"
    ),
    "callbacks hooks default_hooks custom_hooks": "use the setting for each purpose: "
    "`train.stop = EarlyStopping()`, `train.keep = Checkpoints(best = 3)`, `train.ema = EMA()`",
    "shuffle pin_memory drop_last persistent_workers prefetch_factor": "remove this setting; "
    "shuffling and prefetching are always on",
    "mean std": "normalize with the ImageNet mean and deviation, `data.normalize = imagenet`, or not at all, "
    "`data.normalize = none`",
    "data": 'set the folder of the dataset with `data.root = "folder"`, or with `--data FOLDER` on the command line',
    "amp use_amp mixed_precision autocast fp16 bf16 half": "use `train.precision = auto` for the best number format of "
    "the device, or choose `fp16` or `bf16`",
    "test test_dataloader": "score another subset with `segdsl eval RUN --subset test`; a program trains on "
    "`data.train` and validates on `data.val`",
    "trainer": "set trainer options directly in `train`: `train.epochs = 100`, `train.optimizer = AdamW()`",
    "metrics": "remove this setting; precision, recall, Dice and IoU are always computed, and "
    "`train.monitor = val.miou` chooses the score that selects the best epoch",
    "min_lr eta_min": "set the final learning rate as a fraction of `lr`: `train.schedule = Cosine(floor = 0.01)`",
    "save_period save_interval checkpoint_interval save_every save_freq": "set the save interval on the checkpoint "
    "policy: `train.keep = Checkpoints(every = 5 epochs)`",
    "val_split validation_split test_size val_size train_size val_fraction split_ratio": "a subset is a folder or a "
    "list of files, not a fraction of the dataset: `data.train.subset = \"train\"`",
    "early_stopping": "`train.stop = EarlyStopping(patience = 10 epochs)` ends a run early, `train.stop = none` never "
    "does",
    "train_subset val_subset train_loader val_loader": "each subset has settings of its own: "
    "`data.train.batch = 8`, `data.val.batch = 8`",
    "optim_wrapper optimizer_config type": "call the component with its arguments: "
    "`train.optimizer = AdamW(lr = 1e-3)`",
}  # fmt: skip
FOREIGN_SETTINGS = {fold_name(name): remedy for names, remedy in _FOREIGN_SETTINGS.items() for name in names.split()}
"""Settings of other frameworks that a program does not have, with what to do instead."""


EARLY_STOPPING = fold_name("early_stopping")
EXPORT_PRECISIONS = {"half": "fp16", "fp16": "fp16", "int8": "int8", "quantize": "int8", "fp32": "fp32"}
"""Settings of other frameworks for the precision of an exported model."""
_FOREIGN_ARGUMENTS = {
    "pretrained weights encoder_weights backbone_weights load_pretrained pretrained_backbone init_cfg": "weights are "
    'loaded by a section of their own: `weights { backbone = "otx:lite_hrnet_s" }`; `segdsl weights list` names more',
}
FOREIGN_ARGUMENTS = {fold_name(name): help for names, help in _FOREIGN_ARGUMENTS.items() for name in names.split()}
"""Arguments that models of other frameworks take, with what to do instead."""
_COMMON_MISUSES = {
    "split phase": "a subset is a folder or a list of files, not a fraction of the dataset: "
    '`data.train.subset = "train"`',
    "weights": 'name the part that loads the weights: `weights { backbone = "FILE" }`; to weight losses, use '
    "`WeightedSum([…], weights = [1.0, 0.5])`",
}
COMMON_MISUSES = {name: remedy for names, remedy in _COMMON_MISUSES.items() for name in names.split()}
"""The help for names that are valid settings elsewhere but were probably meant in another sense."""


_PIPELINE_STEPS = (
    "normalize to_tensor to_tensor_v2 to_dtype compose pack_seg_inputs load_image_from_file load_annotations collect "
    "default_format_bundle pad"
)
PIPELINE_STEPS = frozenset(fold_name(name) for name in _PIPELINE_STEPS.split())
"""Steps of other frameworks' pipelines that are not augmentations."""
AUTOMATIC_STEP_HELP = "remove this step; images are always read, normalized (`data.normalize`) and converted to tensors"
