"""Memory, roofline time and network time of a training step from its counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vitdet_plugin.evaluation.scaling.cards import FABRICS, GPUS_PER_NODE, Card
from vitdet_plugin.evaluation.scaling.ledger import Operation

WEIGHT = GRADIENT = AVERAGE = BUCKET = 4  # bytes of a parameter in float32: master weight, gradient, EMA, DDP's buffer
MOMENTS = 8  # bytes of both moments of AdamW
# AdamW in one pass reads weight, gradient, two moments and writes all but the gradient; EMA reads two and writes one
OPTIMIZER_TRAFFIC, AVERAGE_TRAFFIC = 7 * 4, 3 * 4
USABLE = 0.9  # part of a card's memory for tensors; the rest is for the CUDA context, NCCL, fragmentation, the losses
BATCHES = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Line:
    """A straight line through the values at two batch sizes.

    Peak memory and roofline time are convex functions of the batch size, so the line is not below them in between.
    """

    first: tuple[int, float]
    second: tuple[int, float]

    def at(self, batch: int) -> float:
        """Return the value at a batch size."""
        (a, low), (b, high) = self.first, self.second
        return low + (high - low) * (batch - a) / (b - a)


def state_bytes(parameters: int, trainable: int, has_average: bool = True) -> dict[str, int]:
    """Return the bytes of weights, gradients, AdamW's moments and averaged weights of a training in mixed precision."""
    return dict(weights=WEIGHT * parameters, gradients=GRADIENT * trainable, moments=MOMENTS * trainable,
                average=AVERAGE * parameters if has_average else 0)


def replicated_bytes(parameters: int, trainable: int, activations: float, ranks: int = 8,
                     has_average: bool = True) -> float:
    """Return the bytes on each GPU under DDP, whose buffers for communication are as large as the gradients."""
    buckets = BUCKET * trainable if ranks > 1 else 0
    return sum(state_bytes(parameters, trainable, has_average).values()) + buckets + activations


def sharded_bytes(parameters: int, trainable: int, largest_unit: int, rest: int, activations: float,
                  ranks: int = 8) -> float:
    """Return the bytes on each GPU under FSDP, without averaged weights, which FSDP does not support here.

    Args:
        parameters: Number of parameters.
        trainable: Number of parameters with a gradient.
        largest_unit: Parameters of the largest block; two blocks (one prefetched) and one block's gradient are whole.
        rest: Parameters outside of the blocks, which are whole during the step, with their gradient.
        activations: Bytes besides parameters and gradients.
        ranks: Number of GPUs that share the state.
    """
    shard = sum(state_bytes(parameters, trainable, has_average=False).values()) / ranks
    whole = (2 * WEIGHT + GRADIENT) * largest_unit + (WEIGHT + GRADIENT) * rest
    return shard + whole + activations


def largest_batch(memory: Mapping[int, float], card: Card) -> int:
    """Return the largest batch size whose bytes fit into a card; 0 if none does."""
    return max((batch for batch, size in memory.items() if size <= USABLE * card.memory), default=0)


def roofline_seconds(operations: Iterable[Operation], card: Card) -> float:
    """Return the time of a step if each operator runs at the peak rate or at the bandwidth, whichever takes longer."""
    return sum(max(each.flops / (card.half_rate if each.is_half else card.float_rate), each.moved / card.bandwidth)
               for each in operations)


def update_bytes(parameters: int, trainable: int, has_average: bool = True) -> int:
    """Return the bytes that fused AdamW and the averaging of weights move in one step."""
    return OPTIMIZER_TRAFFIC * trainable + (AVERAGE_TRAFFIC * parameters if has_average else 0)


def all_reduce_bytes(size: float, ranks: int) -> float:
    """Return the bytes that each rank sends in a ring all-reduce of ``size`` bytes: 2 (n - 1) / n of them."""
    return 2 * (ranks - 1) / ranks * size


def all_reduce_seconds(size: float, ranks: int, card: Card, fabric: str) -> float:
    """Return the time of a ring all-reduce without latency.

    Within a node, a ring sends over NVLink. Over several nodes, rings enter and leave each node once, so its network
    carries 2 (n - 1) / n of the bytes, and the slower of network and NVLink determines the time.
    """
    sent = all_reduce_bytes(size, ranks)
    inside = sent / card.link
    return inside if ranks <= GPUS_PER_NODE else max(inside, sent / FABRICS[fabric])


def sharded_traffic(size: float, ranks: int) -> float:
    """Return the bytes that each rank sends under FSDP: two all-gathers of the weights, one reduce-scatter."""
    return 3 * (ranks - 1) / ranks * size
