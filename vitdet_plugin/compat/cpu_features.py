"""Instructions of this processor."""

import functools
import re
import subprocess
import sys
from pathlib import Path

_CPUINFO = Path('/proc/cpuinfo')
_BF16_FLAGS = {'avx512_bf16', 'amx_bf16', 'bf16'}  # the last one on ARM


@functools.cache
def has_fast_bf16() -> bool:
    """Whether the processor computes in bfloat16; without such instructions it is emulated and slower than float32."""
    if _CPUINFO.is_file():
        words = re.findall(r'^(?:flags|Features)\s*:(.*)$', _CPUINFO.read_text(errors='replace'), re.MULTILINE)
        return any(_BF16_FLAGS & set(line.split()) for line in words)
    if sys.platform == 'darwin':
        done = subprocess.run(['sysctl', '-n', 'hw.optional.arm.FEAT_BF16'], capture_output=True, text=True)
        return done.stdout.strip() == '1'
    import torch
    found = (getattr(torch.cpu, name, None) for name in ('_is_avx512_bf16_supported', '_is_amx_tile_supported'))
    return any(bool(function()) for function in found if function is not None)
