"""Compile what an operator would launch for an NVIDIA GPU, without one: finds what Triton's interpreter accepts only.

The operator runs on the CPU with its kernels replaced by :class:`Ahead`, so that every launch is compiled with the
arguments it would have; results are meaningless.
"""

from collections.abc import Callable
from contextlib import contextmanager
from types import ModuleType
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from vitdet_plugin.ops import tuning

TYPES = {torch.float32: 'fp32', torch.float64: 'fp64', torch.bfloat16: 'bf16', torch.float16: 'fp16',
         torch.int32: 'i32', torch.int64: 'i64', torch.uint8: 'u8', torch.bool: 'i1'}
SHARED = {80: 163 << 10, 86: 99 << 10, 90: 227 << 10}  # bytes of shared memory for a block, by architecture


class Ahead:
    """A kernel that is compiled instead of launched."""

    def __init__(self, kernel: JITFunction, arch: int, compiled: list) -> None:
        self.kernel, self.arch, self.compiled = kernel, arch, compiled

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        assert all(0 < size < 1 << 31 for size in grid) and all(size < 1 << 16 for size in grid[1:])
        return self.launch

    def launch(self, *args: object, num_warps: int = 4, num_stages: int = 2, **kwargs: object) -> None:
        names = self.kernel.arg_names
        values = {**dict(zip(names, args)), **kwargs}
        assert set(values) == set(names), set(values) ^ set(names)
        constants = {param.name: values[param.name] for param in self.kernel.params if param.is_constexpr}
        constants.update({name: 1 for name, value in values.items() if type(value) is int and value == 1
                          and name not in constants})
        signature = {name: 'constexpr' if name in constants else kind(values[name]) for name in names}
        divisible = {(i,): [['tt.divisibility', 16]] for i, name in enumerate(names)
                     if isinstance(values[name], torch.Tensor) or (type(values[name]) is int and name not in constants
                                                                   and values[name] % 16 == 0)}
        source = ASTSource(self.kernel, signature, constants, divisible)
        result = triton.compile(source, target=GPUTarget('cuda', self.arch, 32),
                                options=dict(num_warps=num_warps, num_stages=num_stages))
        self.compiled.append((self.kernel.__name__, dict(kwargs, num_warps=num_warps, num_stages=num_stages), result))


def kind(value: object) -> str:
    """Return Triton's name for the type of an argument."""
    if isinstance(value, torch.Tensor):
        return f'*{TYPES[value.dtype]}'
    if isinstance(value, bool):
        return 'i1'
    if isinstance(value, int):
        return 'i32' if -1 << 31 <= value < 1 << 31 else 'i64'
    return 'fp32'


@contextmanager
def compiling(kernels: ModuleType, arch: int = 90, all_choices: bool = False):
    """Replace the kernels of a module; yields a list of (name, constants, result) of what was compiled."""
    compiled: list = []
    found = {name: Ahead(value, arch, compiled) for name, value in vars(kernels).items()
             if isinstance(value, JITFunction) and name.endswith('_kernel')}

    def launch_tuned(key, choices, launch, tensor):
        for choice in choices if all_choices else choices[:1]:
            launch(choice)

    with mock.patch.multiple(kernels, **found), mock.patch.object(tuning, 'launch_tuned', launch_tuned):
        yield compiled
    assert all(result.metadata.shared <= SHARED[arch] for *_, result in compiled)
