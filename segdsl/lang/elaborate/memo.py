"""A block built once need not be worked out again: its nodes are copied to the next path.

Networks repeat themselves. The same block with the same arguments on inputs of the same shapes gives the same nodes,
up to their paths, so that elaboration costs as much as the distinct blocks of a program, and copying the rest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from segdsl.ir.graph import Node
from segdsl.ir.shape import Dim
from segdsl.ir.values import Quantity, Range, Size
from segdsl.lang.elaborate.context import Context, check_name
from segdsl.lang.elaborate.values import BlockRecipe, Module, OpRecipe, Tensor, join

PLAIN = (bool, int, float, str, Dim, Size, Range, Quantity, type(None))


class NotKeyed(Exception):
    """Something that cannot be compared by value."""


class Recording(NamedTuple):
    """What one application of a block added, and under which path and inputs."""

    path: str
    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    names: tuple[tuple[str, str], ...]
    state: tuple[str, ...]
    result: Any


def key_of(recipe: BlockRecipe, value: Any) -> Any:
    """What decides the nodes of an application, or None when it cannot be told."""
    try:
        arguments = tuple(_key(v) for v in recipe.arguments.values())
        extra = tuple(_key(v) for v in recipe.extra.values())
        inputs = inputs_of(recipe, value)
        same = tuple(inputs.index(path) for path in inputs)
        return (id(recipe.block), arguments, _key(value), extra, same)
    except NotKeyed:
        return None


def _key(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.shape
    if isinstance(value, tuple):
        return tuple(_key(v) for v in value)
    if isinstance(value, Module) and isinstance(value.recipe, OpRecipe) and not value.recipe.operands:
        return (type(value.recipe.op), tuple(value.recipe.op.__dict__.values()))
    if isinstance(value, PLAIN):
        return (type(value), value)
    raise NotKeyed


def inputs_of(recipe: BlockRecipe, value: Any) -> tuple[str, ...]:
    """The paths of the tensors that an application gets: what flows in, further inputs, those among its arguments."""
    return leaves((value, *recipe.extra.values(), *recipe.arguments.values()))


def leaves(value: Any) -> tuple[str, ...]:
    """The paths of the tensors in a value, in order."""
    if isinstance(value, Tensor):
        return (value.path,)
    return tuple(p for v in value for p in leaves(v)) if isinstance(value, tuple) else ()


def record_application(
    context: Context, mark: tuple[int, int, int], path: str, recipe: BlockRecipe, value: Any, result: Any
) -> None:
    """Keeps what an application added since ``mark`` (lengths of nodes, names and state) for the next one like it."""
    key = key_of(recipe, value)
    if key is None or not _pure(result):
        return
    names = tuple(context.names.items())[mark[1] :]
    state = tuple(context.state)[mark[2] :]
    inputs = inputs_of(recipe, value)
    nodes = tuple(context.nodes[mark[0] :])
    if all(p == path or p.startswith(path + ".") for p in (*state, *(n for n, _ in names))):
        context.recordings[key] = Recording(path, inputs, nodes, names, state, result)


def _pure(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, tuple) and all(_pure(v) for v in value))


def replay(context: Context, recipe: BlockRecipe, path: str, value: Any) -> Any:
    """The result of an application that was recorded before, copied to ``path``; None when there is none to copy."""
    key = key_of(recipe, value)
    recording = context.recordings.get(key) if key is not None else None
    if recording is None:
        return None
    old = recording.path
    moved = dict(zip(recording.inputs, inputs_of(recipe, value), strict=True))
    for node in recording.nodes:
        moved[node.path] = _moved(node.path, old, path)
    fresh = [moved[n.path] for n in recording.nodes]
    state = {key: _moved(key, old, path) for key in recording.state}
    outside = any(o not in moved for n in recording.nodes for o in n.operands)
    if outside or not context.taken.isdisjoint(fresh) or any(s in context.state for s in state.values()):
        return None
    if state:
        check_name(path, recipe.block.tree.name.span)
    context.taken.update(fresh)
    context.applications += len(fresh)
    for node in recording.nodes:
        values = {
            **node.__dict__,
            "path": moved[node.path],
            "operands": tuple(moved[o] for o in node.operands),
            "module": None if node.module is None else state[node.module],
        }
        context.nodes.append(Node.trusted(values))
    for key in recording.state:
        context.state[state[key]] = context.state[key]
    for name, target in recording.names:
        context.names.setdefault(_moved(name, old, path), moved.get(target) or target)
    return _mapped(recording.result, moved)


def _moved(path: str, old: str, new: str) -> str:
    """A path below ``old``, or one that stands beside it because it was taken, below ``new``."""
    return new + path[len(old) :] if path.startswith(old) else join(new, path)


def _mapped(value: Any, moved: dict[str, str]) -> Any:
    if isinstance(value, Tensor):
        return Tensor(moved.get(value.path, value.path), value.shape, value.span)
    return tuple(_mapped(v, moved) for v in value)
