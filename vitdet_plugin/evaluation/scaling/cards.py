"""Peak rates of GPUs and networks, from the manufacturers' datasheets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """A GPU.

    Attributes:
        name: Name for tables.
        memory: Bytes; datasheets count in 10^9.
        half_rate: Dense bfloat16 operations per second of the tensor cores.
        float_rate: float32 operations per second outside of the tensor cores.
        bandwidth: Bytes per second of its memory.
        link: Bytes per second that NVLink sends; the datasheets' number counts both directions.
        source: Datasheet.
    """

    name: str
    memory: float
    half_rate: float
    float_rate: float
    bandwidth: float
    link: float
    source: str


_A100 = 'NVIDIA A100 Tensor Core GPU datasheet (SXM)'
_H100 = 'NVIDIA H100 Tensor Core GPU datasheet (SXM); half of the rate with sparsity'
CARDS = (
    Card('A100-40', 40e9, 312e12, 19.5e12, 1.555e12, 300e9, _A100),
    Card('A100-80', 80e9, 312e12, 19.5e12, 2.039e12, 300e9, _A100),
    Card('H100', 80e9, 989.5e12, 67e12, 3.35e12, 450e9, _H100),
)

GPUS_PER_NODE = 8
# Bytes per second that a node sends over each fabric
FABRICS = {
    '1 x 200 Gb/s': 200e9 / 8,
    '1 x 400 Gb/s': 400e9 / 8,
    '8 x 200 Gb/s': 8 * 200e9 / 8,
    '8 x 400 Gb/s': 8 * 400e9 / 8,
}
