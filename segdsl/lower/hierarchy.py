"""Modules and parameters filed under their paths. The file that `compile --emit torch` writes contains this source."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


class Group(nn.Module):
    """Holds modules by name, or by number."""

    def __getitem__(self, number: int) -> nn.Module:
        return self.get_submodule(str(number))


def assemble(root: nn.Module, parts: Mapping[str, nn.Module | nn.Parameter]) -> None:
    """Files every part under its path below ``root``. Parents go in first, so that none replaces its children."""
    for path in sorted(parts, key=lambda path: path.count(".")):
        *parents, name = path.split(".")
        holder = root
        for parent in parents:
            if parent not in holder._modules:
                holder.add_module(parent, Group())
            holder = holder.get_submodule(parent)
        setattr(holder, name, parts[path])
