"""Whether modules are observed, so that their forward pass must not be replaced."""

from torch import nn


def has_hooks(*modules: nn.Module) -> bool:
    """Whether one of the modules has forward or backward hooks, such as those of activation maps."""
    return any(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
               or module._backward_pre_hooks for module in modules)
