"""Where a setting belongs that stands where it is unknown: another section, an argument of a word, or the command."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from segdsl.diagnostics import called, nearest, suggest
from segdsl.diagnostics.foreign import SYNONYMS, folded
from segdsl.ir.program import SECTIONS, Section
from segdsl.ir.word import REGISTRY, Word, members, word_family
from segdsl.lang.suggest.remedies import article, is_number
from segdsl.syntax import tree

Path = tuple[str, ...]
LONGEST = 40
"""A value of more characters is not repeated in a remedy."""
OPEN = "open"
"""Stands in a path for a name of the author's choice."""

_NO_KEYS = {
    "device devices gpu gpus gpu_ids cuda accelerator": "the device is said when a run is started: "
    "`segdsl train FILE --device cuda`",
    "resume resume_from resume_from_checkpoint auto_resume ckpt_path": "a run is gone on with from the command line: "
    "`segdsl train FILE --out DIR --resume`",
    "out output output_dir out_dir work_dir save_dir log_dir run_dir default_root_dir project exp_name run_name name": (
        "the run folder is named when it is started: `segdsl train FILE --out DIR`"
    ),
    "num_classes nc n_classes nclasses classes_num": "classes are named, and the model is told how many they are: "
    '`data.classes = ["background", "defect"]`, `model = LiteHRNetS(classes = len(data.classes))`',
    "max_iters max_steps num_iters total_iters total_steps iterations steps iters": "the length of a run is told in "
    "epochs: `train.epochs = 40`",
    "warmup warmup_epochs warmup_iters warmup_steps warmup_ratio": "a warm-up begins the schedule: "
    "`train.schedule = Warmup(5 epochs) -> Poly()`",
    "verbose log_interval log_every_n_steps print_freq logger loggers tensorboard wandb plots": (
        "a run logs by itself, into `metrics.csv`, `tensorboard` and `report.html`; remove it"
    ),
    "callbacks hooks default_hooks custom_hooks": "what follows a run is named by what it does: "
    "`train.stop = EarlyStopping()`, `train.keep = Checkpoints(best = 3)`, `train.ema = EMA()`",
    "shuffle pin_memory drop_last persistent_workers prefetch_factor": "training images are shuffled, and loaded "
    "ahead, without being told; remove it",
    "mean std": "mean and deviation are ImageNet's, `data.normalize = imagenet`, or none, `data.normalize = none`",
    "data": 'the folder of the data is `data.root = "folder"`, or `--data FOLDER` on the command line',
    "amp use_amp mixed_precision autocast fp16 bf16 half": "`train.precision = auto` takes the number format that the "
    "device is made for; `fp16` and `bf16` name one",
    "test test_dataloader": "a program learns from `data.train` and is scored on `data.val`; another subset is "
    "scored by `segdsl eval RUN --subset test`",
    "trainer": "what a trainer is told stands in `train` itself: `train.epochs = 100`, `train.optimizer = AdamW()`",
    "metrics": "precision, recall, Dice and IoU are always computed; `train.monitor = val.miou` says which is watched",
    "min_lr eta_min": "what is left of the rate at the end is a share of it: divide by `lr`, "
    "`train.schedule = Cosine(floor = 0.01)`",
    "save_period save_interval checkpoint_interval save_every save_freq": "how often a run is kept is said with its "
    "checkpoints: `train.keep = Checkpoints(every = 5 epochs)`",
    "val_split validation_split test_size val_size train_size val_fraction split_ratio": "a subset is a folder or a "
    "list of files of the data set, not a share of it: `data.train.subset = \"train\"`",
    "optim_wrapper optimizer_config type": 'a word is called with its arguments: `train.optimizer = AdamW(lr = 1e-3)`',
}  # fmt: skip
NO_KEYS = {folded(name): remedy for names, remedy in _NO_KEYS.items() for name in names.split()}
"""What others set in their configuration and a program does not hold, with what to do instead."""


_NOT_SO = {
    "split phase": "a subset is a folder or a list of files of the data set, not a share of it: "
    '`data.train.subset = "train"`',
    "weights": 'weights are loaded by the part that takes them: `weights { backbone = "FILE" }`; those of the losses '
    "are `WeightedSum([…], weights = [1.0, 0.5])`",
}
NOT_SO = {name: remedy for names, remedy in _NOT_SO.items() for name in names.split()}
"""What to say of a setting that has a place, and whose value is none for it."""


_NO_WORDS = (
    "normalize to_tensor to_tensor_v2 to_dtype compose pack_seg_inputs load_image_from_file load_annotations collect "
    "default_format_bundle pad"
)
NO_WORDS = frozenset(folded(name) for name in _NO_WORDS.split())
"""Steps that other pipelines have, and that are no augmentation."""
DONE_ALWAYS = "images are read, normalised (`data.normalize`) and made tensors without being told: remove it"


class Home(NamedTuple):
    """A place for a setting: its path, and the words that have it as an argument, none where it is a key.

    ``by_path`` says that the argument can be set by its path, which one of a chain cannot.
    """

    path: Path
    words: tuple[str, ...] = ()
    by_path: bool = True


@lru_cache(maxsize=1)
def _index() -> dict[str, tuple[Home, ...]]:
    """Every key and argument of the sections by its name; keys before arguments."""
    found = sorted(_all_homes(), key=lambda home: bool(home.words))
    index: dict[str, tuple[Home, ...]] = {}
    for home in found:
        index[home.path[-1]] = (*index.get(home.path[-1], ()), home)
    return index


def _all_homes() -> Iterator[Home]:
    yield Home(("model",))
    yield Home(("weights",))
    for name, record in SECTIONS.items():
        yield Home((name,))
        yield from _below((name,), record)


def _below(path: Path, record: type[Section]) -> Iterator[Home]:
    for name, info in record.model_fields.items():
        here, kind = (*path, name), info.annotation
        yield Home(here)
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _below(here, kind)
        family = word_family(kind)
        if family is None or typing.get_origin(kind) is dict:
            continue
        taken: dict[str, list[str]] = {}
        for word, cls in members(family).items():
            for argument in cls.model_fields:
                taken.setdefault(argument, []).append(word)
        for argument, words in taken.items():
            yield Home((*here, argument), tuple(words), typing.get_origin(kind) is not tuple)


def homes(name: str, section: Path) -> tuple[Home, ...]:
    """Where a setting called ``name``, here or by others, belongs that ``section`` does not have; the best first."""
    for wanted in (name, *SYNONYMS.get(folded(name), ())):
        found = [home for home in _index().get(wanted, ()) if home.path[:-1] != section]
        if found:
            return tuple(sorted(found, key=lambda home: _distance(home, section)))
    return ()


def _distance(home: Home, section: Path) -> tuple[bool, bool, bool, int]:
    """An argument of what stands in the section is nearest, then what has a section of this name above it; what can be
    set by its path comes before an argument of a chain."""
    inside = bool(section) and home.path[: len(section)] == section
    same = bool(section) and section[-1] in home.path[:-1]
    return not inside, not home.by_path, not same, len(home.path)


def holders(word: type[Word]) -> Iterator[Path]:
    """The keys that take a word."""
    for name, record in SECTIONS.items():
        yield from _holding((name,), record, word)


def _holding(path: Path, record: type[Section], word: type[Word]) -> Iterator[Path]:
    for name, info in record.model_fields.items():
        kind: Any = info.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _holding((*path, name), kind, word)
        family = word_family(typing.get_args(kind)[1] if typing.get_origin(kind) is dict else kind)
        if family is not None and issubclass(word, family):
            yield (*path, name, OPEN) if typing.get_origin(kind) is dict else (*path, name)


def key_paths() -> list[str]:
    """The paths of all sections and keys."""
    paths = [home.path for home in _all_homes() if not home.words]
    return [".".join(path) for path in paths if path[0] in SECTIONS]


def record_at(path: Path) -> type[Section] | None:
    """The section at a path; None where there is none."""
    kind: Any = SECTIONS.get(path[0]) if path else None
    for name in path[1:]:
        kind = kind.model_fields[name].annotation if kind is not None and name in kind.model_fields else None
        if not (isinstance(kind, type) and issubclass(kind, Section)):
            return None
    return kind


class Unplaced(NamedTuple):
    """A setting that is unknown where it stands: its name, the section, how much of that is said by the braces around
    it, and its value as expression and as text, None and "" for a section."""

    name: str
    section: Path
    braces: int
    value: tree.Expr | None
    text: str


class Remedy(NamedTuple):
    """What to do, and the path that would stand in place of the name; empty where another one does not mend it."""

    help: str
    path: str = ""


def argument_remedy(name: str, known: Iterable[str]) -> str:
    """What to do about an argument that a word does not have: the one that is meant, or the key that is called so."""
    known = list(known)
    keys = [".".join(home.path) for home in homes(name, ()) if home.path[-1] == name and not home.words]
    help = suggest(name, known, "arguments")
    return f"it is a key of its own: `{keys[0]} = …`; {help}" if keys and not nearest(name, known) else help


def remedy(setting: Unplaced, known: Iterable[str]) -> Remedy | None:
    """What to do about a setting that belongs elsewhere; None where it is misspelt, or another name of one of the
    ``known`` here, and where nothing is known of it."""
    value = setting.value
    known = [name for name in known if value is None or not has_braces((*setting.section, name))]
    found = tuple(home for home in homes(setting.name, setting.section) if _may_hold(home, value, setting.section))
    same = bool(found) and found[0].path[-1] == setting.name
    sentence = NO_KEYS.get(folded(setting.name))
    if sentence is not None and not same:
        return Remedy(sentence)
    if called(setting.name, known) and not (same and not found[0].words):
        return None
    said = value.name if isinstance(value, tree.Name) else value.value if isinstance(value, tree.Constant) else None
    if isinstance(said, str) and said in known:
        return Remedy(f"`{said}` is a key here: `{'.'.join((*setting.section, said))} = …`")
    word = REGISTRY.get(value.func.name) if isinstance(value, tree.Call) and isinstance(value.func, tree.Name) else None
    if word is not None:
        taken = tuple(Home((*path[:-1], setting.name) if path[-1] == OPEN else path) for path in holders(word))
        found = taken or found
    if not found:
        return _without_place(setting) if value is not None else None
    return _moved(setting, found)


def _may_hold(home: Home, value: tree.Expr | None, section: Path) -> bool:
    """Whether a setting may stand at a home: a value not where only braces do, and nothing at what is around it."""
    around = section[: len(home.path)] == home.path
    return not around and (value is None or (not has_braces(home.path) and _takes(home, value)))


def _takes(home: Home, value: tree.Expr) -> bool:
    """Whether a home may take a constant: a number is no text, and a text no list of numbers."""
    if not isinstance(value, tree.Constant) or isinstance(value.value, bool) or value.value is None:
        return True
    kind = annotation_at(home)
    leaves = set(_leaves(kind))
    if not isinstance(value.value, str):
        return leaves != {str}
    return not leaves <= {float, int} or not (_lists(kind) or not (home.words or is_number(value.value)))


def annotation_at(home: Home) -> Any:
    """The type of what is set at a home."""
    if home.words:
        return REGISTRY[home.words[0]].model_fields[home.path[-1]].annotation
    holder = record_at(home.path[:-1])
    return holder.model_fields[home.path[-1]].annotation if holder is not None else None


def _leaves(kind: Any) -> Iterator[Any]:
    """The types that a type is made of, without none."""
    if typing.get_origin(kind) is typing.Annotated:
        yield from _leaves(typing.get_args(kind)[0])
    elif typing.get_origin(kind) in (tuple, typing.Union, types.UnionType):
        for inner in typing.get_args(kind):
            yield from () if inner in (type(None), Ellipsis) else _leaves(inner)
    else:
        yield kind


def _lists(kind: Any) -> bool:
    return any(typing.get_origin(inner) is tuple for inner in (kind, *typing.get_args(kind)))


def _said_of_share(word: type[Word], setting: Unplaced) -> str:
    """The arguments of a word for a value that somebody gives to a key of its name: how often it happens, or that."""
    value = setting.value.value if isinstance(setting.value, tree.Constant) else None
    if next(iter(word.model_fields), "") != "p" or value is None or isinstance(value, str) or value is False:
        return "…"
    return "" if value is True else f"p = {setting.text}"


def _without_place(setting: Unplaced) -> Remedy | None:
    """What to do about a value that no key takes: what is called so is a section, a word, or told in another way."""
    sentence = NOT_SO.get(folded(setting.name))
    if sentence is not None:
        return Remedy(sentence)
    section = next((h.path for h in homes(setting.name, setting.section) if has_braces(h.path)), None)
    if section is not None:
        return Remedy(f"it is a section: `{'.'.join(section)} {{ … }}`")
    names = (setting.name, *SYNONYMS.get(folded(setting.name), ()))
    word = next((REGISTRY[name] for name in names if name in REGISTRY), None)
    path = next(holders(word), None) if word is not None else None
    if word is None or path is None:
        return None
    said = _said_of_share(word, setting)
    own = re.findall("[A-Z][a-z]*", word.__name__)[-1].lower()
    key = ".".join((*path[:-1], own) if path[-1] == OPEN else path)
    return Remedy(f"it is {article(word.kind)}: `{key} = {word.__name__}({said})`")


def opens(home: Home) -> bool:
    """Whether more of a path may follow a home: it is a section, or a component with arguments."""
    return not home.words and (has_braces(home.path) or word_family(annotation_at(home)) is not None)


def has_braces(path: Path) -> bool:
    """Whether a path leads to a section, or to names of the author's choice."""
    if path == ("weights",) or record_at(path) is not None:
        return True
    holder = record_at(path[:-1])
    return holder is not None and typing.get_origin(holder.model_fields[path[-1]].annotation) is dict


def _moved(setting: Unplaced, found: tuple[Home, ...]) -> Remedy:
    best, *others = found
    path = best.path
    around = setting.section[: setting.braces]
    inside = bool(around) and path[: len(around)] == around
    said = ".".join(path[len(around) :] if inside else path)
    shown = " { … }" if has_braces(path) else f" = {setting.text or '…'}"
    if not best.by_path:
        return Remedy(f"it is an argument: `{'.'.join(path[:-1])} = {best.words[0]}({path[-1]}{shown})`")
    what = f", an argument of {_listed(best.words)}" if best.words else ""
    where = "" if inside or not around else f" outside of `{'.'.join(around)} {{ }}`"
    help = f"it is `{'.'.join(path)}`{what}: write `{said}{shown}`{where}"
    rest = [".".join(home.path) for home in others if home.by_path][:2]
    if rest:
        help += f"; there is {' and '.join(f'`{path}`' for path in rest)}, too"
    replaces = (inside or not around) and not others
    return Remedy(help, said if replaces else "")


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words[:4]) + (", …" if len(words) > 4 else "")
