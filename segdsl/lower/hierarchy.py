"""Module hierarchies from paths. `compile --emit torch` copies this source into the emitted file."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


class ModuleGroup(nn.Module):
    """A container of modules by name or by number."""

    def __getitem__(self, number: int) -> nn.Module:
        return self.get_submodule(str(number))


def assemble(root: nn.Module, parts: Mapping[str, nn.Module | nn.Parameter]) -> None:
    """Attach every part to ``root`` under its path."""
    # Parents first: attaching a parent later would replace the group that holds its children.
    for path in sorted(parts, key=lambda path: path.count(".")):
        *parents, name = path.split(".")
        holder = root
        for parent in parents:
            if parent not in holder._modules:
                holder.add_module(parent, ModuleGroup())
            holder = holder.get_submodule(parent)
        setattr(holder, name, parts[path])
