"""Models with their normalization and post-processing, as they are exported."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitdet_plugin.export.detectors import exportable_heads
from vitdet_plugin.export.levels import padded_hw
from vitdet_plugin.utils.exporting import may_vary


class ExportedClassifier(nn.Module):
    """Classifier with normalization included.

    ``forward`` takes images of shape ``(B, C, H, W)`` with values from 0 to 255 and returns probabilities of shape
    ``(B, num_classes)``.
    """

    output_names = ('scores',)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.preprocess = model, Preprocess(model)

    def forward(self, image: Tensor) -> Tensor:
        return self.model(self.preprocess(image), mode='tensor').softmax(1)


class ExportedFeatures(nn.Module):
    """Backbone and neck of a detector with normalization included.

    ``forward`` takes images of shape ``(B, C, H, W)`` with values from 0 to 255 and returns the feature maps.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.preprocess = model, Preprocess(model)
        with torch.no_grad():
            side = max(getattr(model.backbone, 'out_strides', (32,))[-1], model.data_preprocessor.pad_size_divisor, 32)
            count = len(model.extract_feat(torch.zeros(1, self.preprocess.channels, 2 * side, 2 * side)))
        self.output_names = tuple(f'map_{level}' for level in range(count))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.extract_feat(self.preprocess(image)))


class ExportedDetector(nn.Module):
    """Detector with normalization and post-processing included.

    ``forward`` takes images of shape ``(B, C, H, W)`` with values from 0 to 255 and returns the outputs of
    :mod:`vitdet_plugin.export.detectors`, with boxes in pixels of the images, highest score first.

    Args:
        model: A detector of mmdet.
        masks: 'boxes' for probabilities over the boxes, 'image' for pasted masks.

    Attributes:
        masks: The form of its masks; None without masks.
    """

    def __init__(self, model: nn.Module, masks: str = 'boxes') -> None:
        super().__init__()
        self.model, self.preprocess, self.heads = model, Preprocess(model), exportable_heads(model, masks)
        self.output_names = self.heads.output_names
        self.masks = getattr(self.heads, 'masks', masks) if 'masks' in self.output_names else None

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.heads(tuple(self.model.extract_feat(self.preprocess(image))), tuple(image.shape[2:]))


class Preprocess(nn.Module):
    """Normalize images of shape ``(B, C, H, W)`` and pad them on the right and at the bottom, as a data preprocessor.

    Three channels are RGB, and are reversed for models of BGR images. Other numbers are in the order of the file.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        preprocessor, self.channels = model.data_preprocessor, input_channels(model)
        swaps = getattr(preprocessor, '_channel_conversion', None)  # set by mmdet: True if channels are reversed
        if swaps is None:
            swaps = getattr(preprocessor, 'to_rgb', False)
        self.is_reversed = self.channels == 3 and not swaps  # pipelines load BGR
        self.divisor = getattr(preprocessor, 'pad_size_divisor', 1) or 1
        self.pad_value = float(getattr(preprocessor, 'pad_value', 0))
        one = torch.ones(1)
        mean, std = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
        self.register_buffer('mean', (0 * one if mean is None else mean).detach().clone().view(1, -1, 1, 1))
        self.register_buffer('std', (one if std is None else std).detach().clone().view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        image = ((image.flip(1) if self.is_reversed else image) - self.mean) / self.std
        height, width = image.shape[2:]
        rows, columns = padded_hw((height, width), self.divisor)
        if self.divisor > 1 and (may_vary(height, width) or (rows, columns) != (height, width)):
            image = nn.functional.pad(image, (0, columns - width, 0, rows - height), value=self.pad_value)
        return image


def describe_channels(channels: int) -> str:
    """Return the order of the channels of the input: RGB if there are 3, else as in the image file."""
    return {1: 'gray', 3: 'RGB'}.get(channels, f'{channels} channels as in the image file')


def input_channels(model: nn.Module) -> int:
    """Return the number of channels of the images of a detector or classifier: those of its first convolution."""
    convolutions = (module for module in model.backbone.modules() if isinstance(module, nn.Conv2d))
    return next((module.in_channels for module in convolutions), 3)
