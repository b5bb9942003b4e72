"""Names that bindings cannot have, because the PyTorch module already uses them."""

from __future__ import annotations

import keyword

# Listed here because this package must not import torch.
MODULE_ATTRIBUTES = frozenset({
    "T_destination", "add_module", "add_submodule", "apply", "bfloat16", "buffers", "call_super_init", "children",
    "code", "compile", "cpu", "cuda", "delete_all_unused_submodules", "delete_submodule", "double", "dump_patches",
    "eval", "extra_repr", "float", "forward", "get_buffer", "get_extra_state", "get_parameter", "get_submodule",
    "graph", "half", "ipu", "load_state_dict", "meta", "modules", "mtia", "named_buffers", "named_children",
    "named_modules", "named_parameters", "parameters", "print_readable", "recompile", "register_backward_hook",
    "register_buffer", "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_load_state_dict_post_hook", "register_load_state_dict_pre_hook",
    "register_module", "register_parameter", "register_state_dict_post_hook", "register_state_dict_pre_hook",
    "requires_grad_", "set_extra_state", "set_submodule", "share_memory", "state_dict", "to", "to_empty", "to_folder",
    "train", "training", "type", "xpu", "zero_grad",
})  # fmt: skip
"""Attributes of `torch.nn.Module` and `torch.fx.GraphModule`; a test compares them with the installed torch."""


def is_name_taken(name: str) -> bool:
    """Return whether Python or torch reserves ``name``, so that no module can have it."""
    return name in MODULE_ATTRIBUTES or keyword.iskeyword(name) or name == "self" or name.startswith("_")


def suggest_free_name(name: str) -> str:
    """Return a free name to suggest for a reserved one."""
    bare = name.strip("_") or "part"
    return f"{bare}_" if is_name_taken(bare) else bare
