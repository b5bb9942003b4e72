"""Aliases: names that PyTorch, Lightning, OpenMMLab, Ultralytics, YAML and argparse use, by the names used here.

Every suggestion of a name consults this table, so a foreign name is recognized wherever it is written.
"""

from __future__ import annotations

from collections.abc import Iterable

# Several entries may share an alias (`steps` is a unit, a milestone list or a length); the names that are valid in the
# place at hand decide which of them is meant, and the first entry wins. `"epochs "` has a space because the dictionary
# needs a second key for the unit; it is stripped when the table is built.
_ALIASES: dict[str, str] = {
    # keys
    "epochs": "num_epochs n_epochs max_epochs total_epochs max_epoch nepochs num_train_epochs",
    "batch": "batch_size bs samples_per_gpu samples_per_device per_device_train_batch_size train_batch_size minibatch",
    "workers": "num_workers n_workers workers_per_gpu dataloader_num_workers num_threads",
    "input_size": "imgsz img_size image_size resolution input_shape img_scale patch_size crop_size size",
    "root": "data_root data_dir dataset_root root_dir dataset path data_path dir",
    "ignore": "ignore_index ignore_label ignore_value",
    "classes": "class_names labels names label_names categories num_classes nc",
    "normalize": "normalization img_norm_cfg",
    "augment": "augmentation augmentations augmentor transforms transform pipeline train_pipeline",
    "subset": "split phase",
    "loss": "criterion loss_fn loss_decode objective losses",
    "optimizer": "optim optimiser optim_wrapper",
    "schedule": "scheduler lr_scheduler lr_schedule lr_config param_scheduler sched lrscheduler",
    "monitor": "metric save_best main_metric watch best_metric",
    "stop": "early_stopping early_stop stopper",
    "keep": "checkpoint checkpoints checkpointing checkpoint_config save_checkpoint save_top_k",
    "ema": "use_ema model_ema with_ema averaging",
    "accumulate": "accumulate_grad_batches gradient_accumulation_steps accumulation_steps grad_accum accumulation "
    "accum_iter",
    "clip": "clip_grad grad_clip gradient_clip gradient_clip_val clip_grad_norm max_grad_norm max_norm",
    "precision": "dtype half",
    "seed": "random_seed manual_seed random_state",
    "freeze": "frozen freeze_backbone frozen_stages frozen_layers freeze_layers",
    "flip": "tta hflip_tta",
    "tile": "window window_size tile_size sliding_window sliding_window_size",
    "overlap": "tile_overlap",
    "weights": "pretrained checkpoint_path load_from init_cfg init_from pretrained_weights loss_weight loss_weights",
    "model": "net network arch architecture segmentor",
    "data": "dataset datasets datamodule dataloader dataloaders",
    "train": "training trainer fit training_args train_cfg runner run learn",
    "val": "valid validation dev test val_dataloader",
    "eval": "test evaluate evaluation test_cfg evaluator score val validate validation valid",
    "export": "deploy deployment onnx_export",
    # arguments
    "lr": "learning_rate lr0 base_lr initial_lr max_lr",
    "weight_decay": "wd l2",
    "class_weights": "class_weight weight alpha",
    "label_smoothing": "smoothing",
    "smooth": "eps epsilon",
    "hardest": "ohem ohem_ratio keep_ratio top_k topk",
    "background": "include_background use_background",
    "average": "avg_non_ignore",
    "p": "prob probability flip_prob",
    "range": "degrees degree angle angles limit rotate_limit",
    "most": "cat_max_ratio",
    "ratio": "aspect ratio_range aspect_ratio",
    "scale": "scale_limit scale_range",
    "rotate": "rotation angle degrees",
    "factor": "gamma",
    "best": "save_top_k max_keep_ckpts",
    "every": "step_size interval save_interval period save_period",
    "milestones": "steps step",
    "floor": "eta_min min_lr lrf",
    "over": "warmup_epochs warmup_iters warmup_steps total_iters t_max max_iters num_steps epochs iters steps",
    "min_delta": "threshold delta tolerance",
    "decay": "ema_decay",
    "kernel": "kernel_size ksize k",
    "channels": "out_channels filters features out_features planes",
    "groups": "num_groups param_groups parameters params",
    "heads": "num_heads n_heads nhead",
    # words
    "CrossEntropy": "cross_entropy_loss ce ce_loss xent softmax_cross_entropy sparse_categorical_crossentropy "
    "categorical_crossentropy",
    "Dice": "dice_loss soft_dice soft_dice_loss",
    "Focal": "focal_loss",
    "WeightedSum": "combined_loss combo_loss compound_loss dice_ce dice_ce_loss",
    "Cosine": "cosine_annealing cosine_annealing_lr cosine_lr cosine_decay cos cos_lr",
    "Poly": "poly_lr polynomial polynomial_lr polynomial_decay poly_decay",
    "Step": "step_lr multi_step_lr multi_step step_decay",
    "ReduceOnPlateau": "reduce_lr_on_plateau plateau",
    "Warmup": "linear_warmup linear_lr warmup_lr linear_warmup_lr gradual_warmup",
    "Constant": "constant_lr fixed",
    "EarlyStopping": "early_stopping_hook early_stopping_callback",
    "EMA": "model_ema ema_hook exponential_moving_average",
    "Checkpoints": "model_checkpoint checkpoint checkpoint_hook",
    "HorizontalFlip": "random_horizontal_flip hflip fliplr random_flip flip",
    "VerticalFlip": "random_vertical_flip vflip flipud",
    "Rotate": "random_rotation random_rotate rotation",
    "RandomCrop": "crop",
    "Resize": "random_resize random_scale rescale letter_box letterbox",
    "PhotometricDistortion": "photo_metric_distortion color_jitter colour_jitter random_brightness_contrast",
    "Affine": "random_affine shift_scale_rotate",
    "GaussianBlur": "random_gaussian_blur",
    "GaussianNoise": "gauss_noise",
    "Grayscale": "to_gray random_grayscale gray grey",
    "Conv": "conv2d conv_2d convolution nn_conv2d",
    "BatchNorm": "batch_norm2d bn sync_batch_norm sync_bn bn2d",
    "ResizeTo": "upsample interpolate upsampling2d",
    "Concat": "cat concatenate",
    "Linear": "dense",
    "SiLU": "swish",
    "AdaptiveAvgPool": "adaptive_avg_pool2d global_avg_pool global_average_pooling2d",
    "ChannelDropout": "dropout2d",
    "OpenVINO": "ir openvino_ir",
    # members
    "fp16": "float16 half amp mixed 16 16_mixed f16 true",
    "bf16": "bfloat16 bf16_mixed bf16_true",
    "fp32": "float32 single full float 32 32_true f32 false",
    "val.miou": "miou mean_iou iou val_miou val_iou jaccard",
    "val.dice": "dice val_dice f1 mdice macro_f1",
    "val.accuracy": "accuracy acc val_acc val_accuracy aacc pixel_accuracy",
    "val.loss": "loss val_loss valid_loss",
    "coco_instances": "coco",
    "voc_segmentation": "voc pascal_voc pascal",
    "mapillary_vistas": "mapillary",
    "kitti_segmentation": "kitti",
    "folders": "folder directory custom image_folder",
    "common_semantic_segmentation": "semantic_segmentation common",
    "bilinear": "linear",
    "letterbox": "keep_ratio",
    "auto": "balanced median_frequency",
    "true": "yes on",
    "false": "no off",
    # units
    "iters": "steps step iterations it iteration batches",
    "epochs ": "ep e",
    "deg": "degrees degree d",
    "px": "pixels pixel",
    "GiB": "gb g",
    "MiB": "mb m",
    "KiB": "kb k",
    # commands
    "predict": "infer inference detect segment",
    "check": "lint verify",
    "fmt": "format",
    "new": "init create setup",
    "show": "cat print view",
    "compile": "info summary build",
    "bench": "benchmark profile speed",
    "explain": "doc docs help",
}


_DIFFERENCE_NOTES: dict[str, str] = {
    "eta_min min_lr": "it is a fraction of the learning rate: divide by `lr`",
    "color_jitter colour_jitter random_brightness_contrast": "its units differ: `brightness` is in levels of 255, "
    "`contrast` and `saturation` are ranges such as `0.5..1.5`, `hue` is in degrees",
    "conv2d conv_2d convolution nn_conv2d": "input channels are inferred, and the kernel is a size: `Conv(32, 3x3)`",
    "batch_norm2d batch_norm_2d bn bn2d sync_batch_norm sync_bn": "the channel count is inferred: `BatchNorm()`",
    "alpha": "it takes one number per class",
}  # fmt: skip


def fold_name(name: str) -> str:
    """Return a name in lower case, letters and digits only: `LRScheduler` and `lr_scheduler` are the same."""
    return "".join(c for c in name.lower() if c.isalnum())


def _build_alias_table() -> dict[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {}
    for ours, theirs in _ALIASES.items():
        for name in theirs.split():
            table[fold_name(name)] = (*table.get(fold_name(name), ()), ours.strip())
    return table


DIFFERENCES = {fold_name(name): note for names, note in _DIFFERENCE_NOTES.items() for name in names.split()}
"""Foreign names whose arguments or values differ here, with the difference: these must not simply be renamed."""


def describe_difference(name: str) -> str:
    """Return what differs from the foreign ``name``, or "" if it takes the same arguments and values here."""
    return DIFFERENCES.get(fold_name(name), "")


def is_foreign_name(name: str) -> bool:
    """Return whether ``name`` is a name of another framework."""
    return fold_name(name) in SYNONYMS


SYNONYMS = _build_alias_table()
"""The names here that each folded foreign name may stand for, in order of preference."""


def resolve_alias(name: str, known: Iterable[str]) -> str | None:
    """Return the one of ``known`` that the foreign ``name`` stands for, or None."""
    meanings = SYNONYMS.get(fold_name(name), ())
    candidates = set(known) if meanings else set()
    return next((ours for ours in meanings if ours in candidates), None)
