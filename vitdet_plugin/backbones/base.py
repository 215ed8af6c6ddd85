"""Base class of the backbones: initialization, freezing and layer ids for layer-wise learning rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS, WEIGHT_INITIALIZERS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitdet_plugin.compat.inductor_layouts import install_for_compilation
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.pretrained import pretrained_init
from vitdet_plugin.utils.registering import import_registering_modules


class InputError(UserError, ValueError, TypeError):
    """A backbone is called with something else than a batch of images of the size that it accepts."""


class Backbone(BaseModule):
    """Base class of the backbones, for detectors and classifiers.

    A subclass implements the layer ids of its parameters (:meth:`get_layer_id`, :attr:`num_layers`), the parts to
    freeze (:meth:`stages_to_freeze`) and the initialization (:meth:`reset_parameters`).

    ``init_cfg=dict(type='Pretrained', checkpoint=...)`` accepts checkpoints of this project and official ones, and
    ``prefix``, ``key`` and the other arguments of ``checkpoints.official.OfficialCheckpoint``. ``pretrained='NAME'`` is
    short for it: a name of ``vitdet weights list``, a file, a URL or a work directory.
    """

    in_channels: int  # channels of the images
    size_divisor: int = 1  # height and width of the images are multiples of it
    size_divisor_name: str = ''  # for messages, where it is an argument of the constructor
    out_channels: tuple[int, ...]  # channels of the maps that forward returns
    out_strides: tuple[int, ...]  # strides of these maps in pixels, ascending
    frozen_stages: int = -1
    with_cp: bool = False  # whether :meth:`checkpointed` recomputes blocks in the backward pass
    # patterns of weights that a checkpoint of this architecture may lack; they keep their initial values
    optional_weights: tuple[str, ...] = ()
    # weights that every model has and by which its files are recognized where there is no model to compare with
    key_weights: tuple[str, ...] = ()
    # arguments of a model of less than a million weights with every kind of part, for tests and ``vitdet gpu-check``
    small: Mapping[str, Any] = {}
    # for CBNet: modules of the stem that several backbones can share, and all values of ``out_indices``
    stem_parts: tuple[str, ...] = ()
    all_out_indices: tuple[int, ...] | None = None

    def __init__(self, init_cfg: dict | list[dict] | None = None, pretrained: str | bool | None = None,
                 model: Any = None) -> None:
        """Initialize the base class.

        Args:
            init_cfg: See mmengine's ``BaseModule``.
            pretrained: See :func:`vitdet_plugin.utils.pretrained.pretrained_init`; None: as ``init_cfg`` says.
            model: Name of the model of timm that the backbone is.

        Raises:
            UserError: ``pretrained`` is not valid, or ``init_cfg`` is given as well.
        """
        if pretrained is not None:
            if init_cfg is not None:
                raise UserError(f'pretrained={pretrained!r} and init_cfg both say what the backbone starts from; give '
                                'one of them')
            init_cfg = pretrained_init(pretrained, model)
        super().__init__(init_cfg)

    @property
    def stem_weight(self) -> str:
        """Name of the first convolution's weight, whose input channels are those of the images."""
        return next(f'{name}.weight' for name, module in self.named_modules() if isinstance(module, nn.Conv2d))

    def check_images(self, images: Any) -> Tensor:
        """Return the argument of ``forward`` if it is a batch of images (B, in_channels, H, W).

        Raises:
            InputError: ``images`` is not a floating-point tensor of this shape, is empty, or a side is not a multiple
                of ``size_divisor``.
        """
        if torch.compiler.is_dynamo_compiling():
            install_for_compilation()
        if not isinstance(images, Tensor):
            if isinstance(images, torch.fx.Proxy):
                raise self._input_error('torch.fx.symbolic_trace is not supported; use torch.export.export or '
                                        'torch.compile')
            raise self._input_error(f'it got an object of type {type(images).__name__}; convert it to a tensor')
        if images.ndim != 4:
            raise self._input_error(f'it got a tensor of shape {tuple(images.shape)}; pass a batch of images')
        if not images.is_floating_point():
            raise self._input_error(f'it got {images.dtype}; normalize the images or call float()')
        if torch.jit.is_tracing():
            return self._multiple_in_trace(images)
        if images.shape[1] != self.in_channels:
            raise self._input_error(f'it got {images.shape[1]} channels (shape {tuple(images.shape)}); convert the '
                                    f'images or build the backbone with in_channels={images.shape[1]}')
        if 0 in images.shape:
            raise self._input_error(f'it got an empty batch of shape {tuple(images.shape)}; leave it out')
        if images.shape[2] % self.size_divisor or images.shape[3] % self.size_divisor:
            raise self._input_error(f'an input of {tuple(images.shape[2:])} pixels is not a multiple of '
                                    f'{self.size_divisor_name or self.size_divisor}; set pad_size_divisor='
                                    f'{self.size_divisor} in the data_preprocessor or pad the images')
        return images

    def _multiple_in_trace(self, images: Tensor) -> Tensor:
        """Return the same images through a view that fails, when the trace is run, if a side is not a multiple."""
        if self.size_divisor > 1:
            images = images.unflatten(2, (-1, self.size_divisor)).flatten(2, 3)
            images = images.unflatten(3, (-1, self.size_divisor)).flatten(3, 4)
        return images

    def _input_error(self, problem: str) -> InputError:
        multiples = f', H and W multiples of {self.size_divisor}' if self.size_divisor > 1 else ''
        return InputError(f'{type(self).__name__} requires floating-point images (B, {self.in_channels}, H, W)'
                          f'{multiples}; {problem}')

    def _not_written(self, name: str) -> NotImplementedError:
        return NotImplementedError(f'{type(self).__name__} has no {name}, which is needed here; Backbone.{name} says '
                                   'what it does')

    def embed(self, x: Tensor) -> Any:
        """Compute the stem: (B, in_channels, H, W) -> the input of :meth:`run`."""
        raise self._not_written('embed')

    def run(self, embedded: Any, added: Sequence[Tensor] | None = None) -> tuple[Tensor, ...]:
        """Compute the maps from the output of :meth:`embed`.

        Args:
            embedded: Output of :meth:`embed`.
            added: Maps (B, C, h, w) that are added to the input of each stage of :meth:`entries`; None for none.

        Returns:
            The maps that ``forward`` returns.
        """
        raise self._not_written('run')

    def entries(self) -> list[tuple[int, int]]:
        """Return channels and stride of the input of each stage that :meth:`run` can add a map to."""
        raise self._not_written('entries')

    @property
    def num_layers(self) -> int:
        """Number of layers with separate learning rates between the stem (id 0) and the rest (``num_layers + 1``)."""
        raise self._not_written('num_layers')

    def get_layer_id(self, name: str) -> int:
        """Return the layer id of a parameter from its name in this backbone: 0 (stem) to ``num_layers + 1``."""
        raise self._not_written('get_layer_id')

    def repeated_blocks(self) -> list[nn.Module]:
        """Return the modules that are compiled and sharded one by one; ``forward`` has to call each as a module.

        By default these are the members of the lists named ``blocks``.
        """
        return _members_of_blocks(self)

    def checkpointed(self, block: Callable, *args: Any) -> Any:
        """Return ``block(*args)``; with ``with_cp`` the block is recomputed in the backward pass.

        The statistics of BatchNorm are updated in the forward pass only.
        """
        if not self.with_cp or not torch.is_grad_enabled():
            return block(*args)
        if torch.compiler.is_compiling() or not isinstance(block, nn.Module):  # a compiled graph updates them once
            return checkpoint(block, *args, use_reentrant=False)
        return checkpoint(block, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), _KeptStatistics(block)))

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return the layer id of a parameter of a model and the number of ids, for mmpretrain's layer-wise rates.

        Args:
            param_name: Name of the parameter in the model.
            prefix: Name of this backbone in the model with a dot; other parameters have the last id.
        """
        last = self.num_layers + 1
        is_own = param_name.startswith(prefix)
        return self.get_layer_id(param_name.removeprefix(prefix)) if is_own else last, last + 1

    def stages_to_freeze(self) -> list[nn.Module | nn.Parameter]:
        """Return the modules and parameters up to and including stage ``self.frozen_stages``."""
        raise self._not_written('stages_to_freeze')

    def reset_parameters(self) -> None:
        """Initialize all parameters again."""
        raise self._not_written('reset_parameters')

    def resize_weight(self, name: str, value: Tensor, own: Tensor) -> Tensor | None:
        """Resize a weight of a checkpoint to the shape of this backbone's weight.

        Called for weights whose shapes differ, for every checkpoint format.

        Args:
            name: Name of the parameter in this backbone.
            value: Weight from the checkpoint.
            own: Weight of this backbone.

        Returns:
            A tensor of the shape of ``own``, or None where resizing is not meaningful.
        """
        return None

    def init_weights(self) -> None:
        """Initialize the parameters, then load the checkpoint of ``init_cfg`` if it names one."""
        self.reset_parameters()
        self.load_init_cfg()
        self._is_init = True

    def load_init_cfg(self) -> None:
        """Load the checkpoint of ``init_cfg`` if it names one."""
        if self.init_cfg and 'OfficialCheckpoint' not in WEIGHT_INITIALIZERS.module_dict:
            # only a backbone was imported so far
            import_registering_modules('checkpoints')
        for cfg in [self.init_cfg] if isinstance(self.init_cfg, dict) else self.init_cfg or []:
            cfg = dict(cfg)
            if cfg['type'] == 'Pretrained':
                cfg['type'] = 'OfficialCheckpoint'
            WEIGHT_INITIALIZERS.build(cfg)(self)

    def train(self, mode: bool = True) -> Backbone:
        """Set the mode; frozen stages stay in eval mode and without gradients."""
        super().train(mode)
        if self.frozen_stages >= 0:
            for part in self.stages_to_freeze():
                if isinstance(part, nn.Module):
                    part.eval()
                part.requires_grad_(False)
        return self


class _KeptStatistics:
    """Context in which the norms of a block update copies of their running statistics."""

    def __init__(self, block: nn.Module) -> None:
        self._block = block
        self._kept: list[tuple[nn.Module, str, Tensor]] = []

    def __enter__(self) -> None:
        self._kept = [(module, name, buffer) for module in self._block.modules()
                      if isinstance(module, nn.modules.batchnorm._NormBase) and module.training
                      for name, buffer in module.named_buffers(recurse=False)]
        for module, name, buffer in self._kept:
            setattr(module, name, buffer.clone())

    def __exit__(self, *exception: object) -> None:
        for module, name, buffer in self._kept:
            setattr(module, name, buffer)


def enter_stage(x_bhwc: Tensor, added: Sequence[Tensor] | None, index: int) -> Tensor:
    """Add map ``index`` of ``added``, (B, C, H, W), to the input (B, H, W, C) of a stage."""
    return x_bhwc if added is None else x_bhwc + added[index].permute(0, 2, 3, 1)


def registered_backbones() -> list[type[Backbone]]:
    """Return the classes of backbones in the registry, all of this package included, sorted by name."""
    import_registering_modules('backbones', skip_incomplete=True)
    found = {cls for cls in MODELS.module_dict.values() if isinstance(cls, type) and issubclass(cls, Backbone)}
    return sorted(found, key=lambda cls: cls.__name__)


def repeated_blocks(backbone: nn.Module) -> list[nn.Module]:
    """Return the blocks of any backbone: of another package's the members of its lists named ``blocks``."""
    return backbone.repeated_blocks() if isinstance(backbone, Backbone) else _members_of_blocks(backbone)


def _members_of_blocks(module: nn.Module) -> list[nn.Module]:
    found: list[nn.Module] = []
    for name, child in module.named_children():
        found += list(child.children()) if name == 'blocks' else _members_of_blocks(child)
    return found
