"""Gather the counts of a model's training step for several batch sizes, with and without kernels and checkpointing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vitdet_plugin.config.input_shape import input_shape
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.scaling.arithmetic import (
    BATCHES,
    Line,
    replicated_bytes,
    roofline_seconds,
    sharded_bytes,
    update_bytes,
)
from vitdet_plugin.evaluation.scaling.cards import CARDS, GPUS_PER_NODE, Card
from vitdet_plugin.evaluation.scaling.ledger import Ledger
from vitdet_plugin.evaluation.scaling.simulate import PlannedModel, Sizes

_COUNTED = (BATCHES[0], BATCHES[-1])  # values at the batch sizes in between lie on a line


@dataclass(frozen=True)
class Known:
    """A detector with a short name: its config, changes of the config, size of the images."""

    config: str
    shape: tuple[int, int]
    options: tuple[str, ...] = ()


def _internimage(arch: str, channels: int) -> Known:
    widths = [channels * 2 ** i for i in range(4)]
    return Known('cascade-mask-rcnn_internimage-l_fpn_1x_coco', (800, 1344), (
        f'model.backbone.arch={arch}', 'model.backbone.layer_scale=None', f'model.neck.in_channels={widths}'))


KNOWN = {
    'ViTDet-B': Known('vitdet_100e', (1024, 1024)),
    'ViTDet-L': Known('mask-rcnn_vitdet-l_lsj-100e_coco', (1024, 1024)),
    'ViTDet-H': Known('mask-rcnn_vitdet-h_lsj-75e_coco', (1024, 1024)),
    'InternImage-L': Known('cascade-mask-rcnn_internimage-l_fpn_1x_coco', (800, 1344)),
    'InternImage-H': _internimage('huge', 320),
    'InternImage-G': _internimage('giant', 512),
}
ALL = 'all'


@dataclass(frozen=True)
class Variant:
    """One way to run the step; lines over the batch size.

    Attributes:
        saved: Bytes of tensors saved for the backward pass.
        peak: Largest number of bytes besides parameters and their gradients.
        forward, backward: Floating-point operations.
        moved: Bytes read and written.
        seconds: Roofline time of both passes for each card, by name.
    """

    saved: Line
    peak: Line
    forward: Line
    backward: Line
    moved: Line
    seconds: dict[str, Line]


@dataclass(frozen=True)
class Plan:
    """The counts of one model.

    Attributes:
        name: Short name or name of the config.
        shape: Height and width of the images in pixels.
        sizes: Numbers of parameters.
        variants: By ``(with_kernels, checkpointed)``.
    """

    name: str
    shape: tuple[int, int]
    sizes: Sizes
    variants: dict[tuple[bool, bool], Variant]

    def memory(self, batch: int, with_kernels: bool, checkpointed: bool, sharded: bool,
               ranks: int = GPUS_PER_NODE) -> float:
        """Return the bytes on each GPU: DDP with averaged weights, or FSDP over ``ranks`` GPUs without them."""
        peak = self.variants[with_kernels, checkpointed].peak.at(batch)
        sizes = self.sizes
        if sharded:
            return sharded_bytes(sizes.parameters, sizes.trainable, sizes.largest_block, sizes.outside, peak, ranks)
        return replicated_bytes(sizes.parameters, sizes.trainable, peak, ranks)

    def images_per_second(self, batch: int, card: Card, with_kernels: bool, checkpointed: bool) -> float:
        """Return the upper bound of a card, including the optimizer and averaged weights, without communication."""
        update = update_bytes(self.sizes.parameters, self.sizes.trainable) / card.bandwidth
        return batch / (self.variants[with_kernels, checkpointed].seconds[card.name].at(batch) + update)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts in a form that can be written as JSON."""
        variants = []
        for (with_kernels, checkpointed), variant in self.variants.items():
            lines = {name: value for name, value in vars(variant).items() if isinstance(value, Line)}
            by_batch = [dict(batch=batch, memory_ddp=self.memory(batch, with_kernels, checkpointed, False),
                             memory_fsdp=self.memory(batch, with_kernels, checkpointed, True),
                             **{name: line.at(batch) for name, line in lines.items()},
                             **{f'images_per_second {card.name}': self.images_per_second(
                                 batch, card, with_kernels, checkpointed) for card in CARDS}) for batch in BATCHES]
            variants.append(dict(with_kernels=with_kernels, checkpointed=checkpointed, by_batch=by_batch))
        return dict(name=self.name, shape=list(self.shape), computed=True, **vars(self.sizes), variants=variants)


def make_plan(name: str, shape: tuple[int, int] | None = None, options: Sequence[str] = ()) -> Plan:
    """Count the training step of a detector or classifier.

    Args:
        name: A key of ``KNOWN`` in any case, a config file, or the name of a shipped config.
        shape: Height and width of the images in pixels; by default that of the name or of the test pipeline.
        options: ``KEY=VALUE`` changes to the config.

    Raises:
        UserError: There is no such config, or its model cannot be counted.
    """
    known = {key.lower(): (key, value) for key, value in KNOWN.items()}.get(name.lower())
    title = known[0] if known else name
    cfg = load_config(known[1].config if known else name, [*(known[1].options if known else ()), *options])
    shape = shape or (known[1].shape if known else input_shape(cfg, or_backbone_size=True))
    model = PlannedModel(cfg, shape)
    variants = {}
    for with_kernels in (True, False):
        for checkpointed in (False, True):
            counts = [_numbers(model.count(batch, with_kernels, checkpointed)) for batch in _COUNTED]
            lines = {key: Line((_COUNTED[0], counts[0][key]), (_COUNTED[1], counts[1][key])) for key in counts[0]}
            seconds = {card.name: lines.pop(card.name) for card in CARDS}
            variants[with_kernels, checkpointed] = Variant(**lines, seconds=seconds)
    return Plan(title, shape, model.sizes, variants)


def names_of(words: Sequence[str]) -> list[str]:
    """Return the models of a command line, with ``all`` in place of all keys of ``KNOWN``.

    Raises:
        UserError: No word.
    """
    if not words:
        raise UserError(f'--plan: give a config, "{ALL}", or one of {", ".join(KNOWN)}')
    return [name for word in words for name in (KNOWN if word == ALL else [word])]


def _numbers(ledger: Ledger) -> dict[str, float]:
    return dict(saved=ledger.saved, peak=ledger.peak, forward=ledger.flops(False), backward=ledger.flops(True),
                moved=ledger.moved, **{card.name: roofline_seconds(ledger.operations, card) for card in CARDS})
