"""Memoization of block applications: a block that was elaborated once is copied to the next path.

Networks are repetitive. The same block with the same arguments on inputs of the same shapes builds the same nodes,
except for their paths, so only the distinct blocks of a program have to be elaborated.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from segdsl.diagnostics import Span
from segdsl.ir.graph import Node
from segdsl.ir.shape import Dim
from segdsl.ir.values import Quantity, Range, Size
from segdsl.lang.elaborate.context import COPY_WORK, Context, check_reserved_names
from segdsl.lang.elaborate.values import BlockRecipe, Module, OpRecipe, Tensor, join_path

VALUE_TYPES = (bool, int, float, str, Dim, Size, Range, Quantity, type(None))


class NotComparable(Exception):
    """A value cannot be compared by value, so it cannot be part of a memoization key."""


class Recording(NamedTuple):
    """The nodes, names and state that one application of a block added, with its path and inputs."""

    path: str
    input_paths: tuple[str, ...]
    nodes: tuple[Node, ...]
    names: tuple[tuple[str, str], ...]
    state: tuple[str, ...]
    result: Any


def make_application_key(recipe: BlockRecipe, value: Any) -> Any:
    """Return a key that determines the nodes of an application, or None if there is none."""
    try:
        arguments = tuple(_make_value_key(v) for v in recipe.arguments.values())
        extra = tuple(_make_value_key(v) for v in recipe.extra_inputs.values())
        inputs = collect_input_paths(recipe, value)
        # Shapes are not enough: `[x, x] -> Join()` and `[a, x] -> Join()` build nodes with other operands. The pattern
        # of equal inputs is part of the key, their paths are not.
        same = tuple(inputs.index(path) for path in inputs)
        return (id(recipe.block), arguments, _make_value_key(value), extra, same)
    except NotComparable:
        return None


def _make_value_key(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.shape
    if isinstance(value, tuple):
        return tuple(_make_value_key(v) for v in value)
    if isinstance(value, Module) and isinstance(value.recipe, OpRecipe) and not value.recipe.operands:
        return (type(value.recipe.op), tuple(value.recipe.op.__dict__.values()))
    if isinstance(value, VALUE_TYPES):
        # With the type, because 1, 1.0 and True are equal in Python.
        return (type(value), value)
    raise NotComparable


def collect_input_paths(recipe: BlockRecipe, value: Any) -> tuple[str, ...]:
    """Return the paths of an application's tensors: its input, its extra inputs, and those among its arguments."""
    return collect_tensor_paths((value, *recipe.extra_inputs.values(), *recipe.arguments.values()))


def collect_tensor_paths(value: Any) -> tuple[str, ...]:
    """Return the paths of the tensors in a value, in order."""
    if isinstance(value, Tensor):
        return (value.path,)
    return tuple(p for v in value for p in collect_tensor_paths(v)) if isinstance(value, tuple) else ()


def record_application(
    context: Context, mark: tuple[int, int, int], path: str, recipe: BlockRecipe, value: Any, result: Any
) -> None:
    """Record what an application added since ``mark`` (lengths of nodes, names and state), for replay."""
    key = make_application_key(recipe, value)
    if key is None or not _has_only_tensors(result):
        return
    names = tuple(context.names.items())[mark[1] :]
    state = tuple(context.state)[mark[2] :]
    inputs = collect_input_paths(recipe, value)
    nodes = tuple(context.nodes[mark[0] :])
    # Names or state outside of the block's path, such as those of a module in a `let` of the file, cannot be moved.
    if all(p == path or p.startswith(path + ".") for p in (*state, *(n for n, _ in names))):
        context.recordings[key] = Recording(path, inputs, nodes, names, state, result)


def _has_only_tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, tuple) and all(_has_only_tensors(v) for v in value))


def replay_application(context: Context, recipe: BlockRecipe, path: str, value: Any) -> Any:
    """Copy an earlier, equal application to ``path`` and return its result, or None if there is none to copy."""
    key = make_application_key(recipe, value)
    recording = context.recordings.get(key) if key is not None else None
    if recording is None:
        return None
    old = recording.path
    moved = dict(zip(recording.input_paths, collect_input_paths(recipe, value), strict=True))
    for node in recording.nodes:
        moved[node.path] = _rebase_path(node.path, old, path)
    fresh = [moved[n.path] for n in recording.nodes]
    state = {key: _rebase_path(key, old, path) for key in recording.state}
    # Elaborate as usual if the copy would refer to other nodes or collide with a path: that gives the right error.
    outside = any(o not in moved for n in recording.nodes for o in n.operands)
    if outside or not context.used_paths.isdisjoint(fresh) or any(s in context.state for s in state.values()):
        return None
    if state:
        check_reserved_names(path, recipe.block.tree.name.span)
    _copy_recording(context, recording, path, moved, state, recipe.block.tree.name.span)
    return _rebase_value(recording.result, moved)


def _copy_recording(
    context: Context, recording: Recording, path: str, moved: dict[str, str], state: dict[str, str], span: Span
) -> None:
    """Add the nodes, state and names of a recording at the paths in ``moved`` and ``state``."""
    fresh = [moved[n.path] for n in recording.nodes]
    context.used_paths.update(fresh)
    # Copies are cheap but fill the memory all the same, so they count against the budgets.
    context.applications += len(fresh)
    context.charge_work((len(recording.nodes) + len(recording.names) + len(recording.state)) * COPY_WORK, span)
    for node in recording.nodes:
        values = {
            **node.__dict__,
            "path": moved[node.path],
            "operands": tuple(moved[o] for o in node.operands),
            "module": None if node.module is None else state[node.module],
        }
        context.nodes.append(Node.build_unchecked(values))
    for key in recording.state:
        context.state[state[key]] = context.state[key]
    for name, target in recording.names:
        context.names.setdefault(_rebase_path(name, recording.path, path), moved.get(target) or target)


def _rebase_path(path: str, old: str, new: str) -> str:
    """Return a path below ``old`` as one below ``new``."""
    # A node whose path was taken got another one, which need not begin with the block's.
    return new + path[len(old) :] if path.startswith(old) else join_path(new, path)


def _rebase_value(value: Any, new_paths: dict[str, str]) -> Any:
    if isinstance(value, Tensor):
        return Tensor(new_paths.get(value.path, value.path), value.shape, value.span)
    return tuple(_rebase_value(v, new_paths) for v in value)
