"""Tables of plans in Markdown: one for each question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vitdet_plugin.evaluation.scaling.arithmetic import (
    BATCHES,
    GRADIENT,
    USABLE,
    WEIGHT,
    all_reduce_bytes,
    all_reduce_seconds,
    largest_batch,
    sharded_traffic,
    state_bytes,
)
from vitdet_plugin.evaluation.scaling.cards import CARDS, FABRICS, GPUS_PER_NODE
from vitdet_plugin.evaluation.scaling.plan import Plan

RANKS = (8, 16, 32, 64, 128, 256, 512)
SPEED_BATCH = 8
_WAYS = {'DDP': (False, False), 'DDP + checkpointing': (True, False), 'FSDP': (False, True),
         'FSDP + checkpointing': (True, True)}  # checkpointed, sharded
_A100, _H100 = CARDS[1], CARDS[2]

INTRODUCTION = """# Scaling, computed

**Every number on this page is computed, not measured.** No training on a GPU was timed for it.
`{command}` writes this page.

A training step of each model runs on fake tensors, which have shapes and no data. All operator calls of the forward and
the backward pass are counted, and the memory that is alive at each of them. The step is that of mixed precision in
bfloat16 (`--amp bf16`): float32 weights, gradients and moments of AdamW, averaged weights (`EMAHook`). Sizes are in
10^9 bytes; a multiply-accumulate is 2 operations.

- *With kernels*: attention with decomposed relative positions and DCNv3 save their inputs and outputs only, and read
  and write them once. *Without*: what a GPU runs if neither is available: relative positions folded into longer queries
  and keys of PyTorch's fused attention, DCNv3 in PyTorch.
- *Checkpointing*: the blocks of the backbone are computed again in the backward pass (`with_cp=True`).
- Left out: proposals, NMS, assignment, RoIAlign, losses, input, time of communication, launches of kernels. The heads
  of regions run on as many regions as are sampled for the loss.
- InternImage-H and -G are Cascade Mask R-CNN as InternImage-L is; there are no published detectors of this form.
"""

COSTS = """Per image of a batch of {batch}. *Activations*: tensors saved for the backward pass. *Peak*: the largest
amount that is alive at one time, with temporary tensors and without gradients of parameters. *Moved*: bytes that
operators read and write in both passes if each runs by itself and nothing stays in a cache.
"""

SPEED = """Images per second and GPU in batches of {batch}, if each operator runs at the peak rate of the card or at its
memory bandwidth, whichever takes longer, and AdamW and the averaging of weights pass once over their state. This is an
upper bound that no program reaches: detectron2 reports 0.314 s for a step of its ViTDet-B with one image per GPU on
A100 (3.2 images/s). Fused elementwise operators (`--compile`) move fewer bytes than are counted here.

{cards}
"""

MEMORY = """GB by batch size: state, communication buffers as large as the gradients, bfloat16 copies of the weights,
and the largest amount of activations and temporary tensors that is alive at one time.
"""

FITS = """Largest of the batch sizes {batches} per GPU in {usable} of 40 / 80 GB, on {ranks} GPUs; "-" where not even
one image fits. FSDP shards the state over the {ranks} GPUs; it does not average weights here.
"""

NETWORK = """DDP reduces float32 gradients once per step: a ring sends 2 (n - 1) / n of their bytes from each of n GPUs.
Within a node of {ranks} GPUs that is NVLink ({a100} GB/s in each direction on A100, {h100} on H100). Over nodes, the
network of a node carries the same number of bytes, at the rate of one adapter or of eight. FSDP gathers the float32
weights twice and scatters the gradients. Times are those of DDP, without latency, and without the overlap with the
backward pass, which hides them where the pass takes longer.
"""


def report(plans: Sequence[Plan], command: str) -> str:
    """Return the page for some models; ``command`` is the one that writes it."""
    sections = [
        ('How large is the state?', _state(plans)),
        ('What does one image cost?', _costs(plans)),
        ('How many images per second at most?', _speed(plans)),
        (f'How much memory does a GPU need (DDP over {GPUS_PER_NODE} GPUs)?', _memory(plans)),
        ('What fits?', _fits(plans)),
        ('What does the network carry?', _network(plans)),
    ]
    return '\n'.join([INTRODUCTION.format(command=command), *(f'## {title}\n\n{text}' for title, text in sections)])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines) + '\n'


def _state(plans: Sequence[Plan]) -> str:
    rows = []
    for plan in plans:
        state = state_bytes(plan.sizes.parameters, plan.sizes.trainable)
        rows.append([plan.name, f'{plan.sizes.parameters / 1e6:.1f} M', *(_gb(each) for each in state.values()),
                     _gb(sum(state.values())), f'{plan.sizes.largest_block / 1e6:.1f} M'])
    return table(['model', 'parameters', 'weights, GB', 'gradients', 'moments of AdamW', 'averaged weights', 'sum',
                  'largest block'], rows)


def _costs(plans: Sequence[Plan]) -> str:
    rows = []
    for plan in plans:
        for with_kernels in (True, False):
            variant, recomputed = (plan.variants[with_kernels, checkpointed] for checkpointed in (False, True))
            height, width = plan.shape
            rows.append([plan.name, f'{height} x {width}', _yes(with_kernels), *(
                f'{line.at(SPEED_BATCH) / SPEED_BATCH / 1e12:.2f}' for line in (variant.forward, variant.backward)),
                f'{variant.moved.at(SPEED_BATCH) / SPEED_BATCH / 1e9:.1f}',
                *(f'{(line.at(2) - line.at(1)) / 1e9:.2f}' for line in (variant.saved, variant.peak, recomputed.peak))])
    head = ['model', 'pixels', 'kernels', 'TFLOP forward', 'TFLOP backward', 'GB moved', 'GB of activations',
            'GB at the peak', 'with checkpointing']
    return COSTS.format(batch=SPEED_BATCH) + '\n' + table(head, rows)


def _speed(plans: Sequence[Plan]) -> str:
    cards = '\n'.join(f'- {card.name}: {card.half_rate / 1e12:.0f} TFLOP/s in bfloat16, {card.float_rate / 1e12:g} '
                      f'in float32, {card.bandwidth / 1e12:.3f} TB/s ({card.source}).' for card in CARDS)
    note = SPEED.format(batch=SPEED_BATCH, cards=cards)
    rows = [[plan.name, _yes(with_kernels), *(
        f'{plan.images_per_second(SPEED_BATCH, card, with_kernels, checkpointed):.1f}'
        for checkpointed in (False, True) for card in CARDS)] for plan in plans for with_kernels in (True, False)]
    return note + '\n' + table(['model', 'kernels', *(card.name for card in CARDS),
                                *(f'{card.name}, checkpointing' for card in CARDS)], rows)


def _memory(plans: Sequence[Plan]) -> str:
    rows = [[plan.name, _yes(with_kernels), _yes(checkpointed), *(
        f'{plan.memory(batch, with_kernels, checkpointed, sharded=False) / 1e9:.1f}' for batch in BATCHES)]
        for plan in plans for with_kernels in (True, False) for checkpointed in (False, True)]
    return MEMORY + '\n' + table(['model', 'kernels', 'checkpointing', *map(str, BATCHES)], rows)


def _fits(plans: Sequence[Plan]) -> str:
    note = FITS.format(batches=', '.join(map(str, BATCHES)), usable=f'{USABLE:.0%}', ranks=GPUS_PER_NODE)
    rows = []
    for plan in plans:
        for with_kernels in (True, False):
            cells = []
            for checkpointed, sharded in _WAYS.values():
                memory = {batch: plan.memory(batch, with_kernels, checkpointed, sharded) for batch in BATCHES}
                cells.append(' / '.join(str(largest_batch(memory, card) or '-') for card in CARDS[:2]))
            rows.append([plan.name, _yes(with_kernels), *cells])
    return note + '\n' + table(['model', 'kernels', *_WAYS], rows)


def _network(plans: Sequence[Plan]) -> str:
    note = NETWORK.format(ranks=GPUS_PER_NODE, a100=f'{_A100.link / 1e9:.0f}', h100=f'{_H100.link / 1e9:.0f}')
    head = ['model', 'GPUs', 'GB sent, DDP', 'GB sent, FSDP', 'NVLink A100, ms', 'NVLink H100, ms',
            *(f'{fabric}, ms' for fabric in FABRICS)]
    rows = []
    for plan in plans:
        gradients = GRADIENT * plan.sizes.trainable
        for ranks in RANKS:
            inside = [f'{all_reduce_bytes(gradients, ranks) / card.link * 1e3:.1f}' for card in (_A100, _H100)]
            outside = [f'{all_reduce_seconds(gradients, ranks, _H100, fabric) * 1e3:.0f}' if ranks > GPUS_PER_NODE else
                       '' for fabric in FABRICS]
            rows.append([plan.name, str(ranks), f'{all_reduce_bytes(gradients, ranks) / 1e9:.2f}',
                         f'{sharded_traffic(WEIGHT * plan.sizes.parameters, ranks) / 1e9:.2f}', *inside, *outside])
    return note + '\n' + table(head, rows)


def _gb(size: float) -> str:
    return f'{size / 1e9:.2f}'


def _yes(value: bool) -> str:
    return 'yes' if value else 'no'
