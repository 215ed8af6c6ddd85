"""``vitdet gpu-check``: prove and time this package on the GPU of this machine."""

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from vitdet_plugin.cli.arguments import parse
from vitdet_plugin.cli.process import run

LIMITS = {False: 480, True: 180}  # seconds, of everything and with --quick


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description='Compare every operator and backbone on the GPU with the CPU, train a small model, and '
                               'measure speed and memory. Needs no data and no network. The exit status is 0 if '
                               'nothing failed, 1 if something did, 2 without a GPU.')
    parser.add_argument('--quick', action='store_true', help='fewer cases, in 3 minutes rather than 8')
    parser.add_argument('--json', type=Path, metavar='FILE.json', help='also write all numbers to this file')
    parser.add_argument('--parts', nargs='+', metavar='PART', help='run these parts only (default: all); '
                                                                   '"operator" stands for all operators')
    parser.add_argument('--goldens', type=Path, metavar='DIR', help='folder of reference outputs to compare with')
    parser.add_argument('--time-limit', type=float, metavar='SECONDS', help='for all parts together')
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda',
                        help='cpu: tiny sizes, to try the command itself; Triton kernels then require '
                             'TRITON_INTERPRET=1')
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), gpu_check_command)


def gpu_check_command(args: argparse.Namespace) -> int:
    from vitdet_plugin.gpu_check.parts import run_parts
    from vitdet_plugin.gpu_check.results import FAILED, Settings, format_table
    from vitdet_plugin.utils.output_files import write_text
    from vitdet_plugin.utils.paths import check_output_path
    names = select_parts(args.parts)
    if args.json:
        check_output_path('--json', args.json, is_folder=False, suffixes=('.json',))
    if args.device == 'cuda' and (reason := why_no_gpu()):
        print(f'no GPU is available: {reason}. Nothing was checked.')
        return 2
    seed = random.SystemRandom().randrange(1 << 31)
    settings = Settings(args.device, args.quick, tiny=args.device == 'cpu', seed=seed,
                        goldens=args.goldens and args.goldens.resolve())
    start, results, printed = time.monotonic(), [], None
    for result in run_parts(names, settings, args.time_limit or LIMITS[args.quick]):
        results.append(result)
        if result.part != printed:
            printed = result.part
            print(printed, flush=True)
        print(f'  {result.name}: {result.status} {result.detail}'.rstrip(), flush=True)
    failed = [result for result in results if result.status == FAILED]
    seconds = time.monotonic() - start
    counts = {status: sum(result.status == status for result in results) for status in ('ok', FAILED, 'left out')}
    if args.json:
        write_text(args.json, json.dumps(dict(card=card(), device=args.device, quick=args.quick, seed=seed,
                                              seconds=round(seconds, 1), counts=counts,
                                              results=[asdict(result) for result in results]), indent=1))
    if failed:
        print(f'\nfailed:\n{format_table(failed)}')
    print(f'\n{card()}, seed {seed}: {counts["ok"]} ok, {len(failed)} failed, {counts["left out"]} left out, '
          f'{seconds:.0f} s')
    return 1 if failed else 0


def select_parts(words: Sequence[str] | None) -> list[str]:
    """Return the names of the parts to run; a first word stands for all parts that begin with it.

    Raises:
        UserError: There is no such part.
    """
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.gpu_check.parts import PARTS
    from vitdet_plugin.utils.text import suggest
    if not words:
        return list(PARTS)
    chosen = []
    for word in words:
        found = [name for name in PARTS if name == word or name.startswith(f'{word} ')]
        if not found:
            raise UserError(f'--parts: {word!r} is unknown{suggest(word, PARTS)}; choose from {", ".join(PARTS)}')
        chosen += found
    return chosen


def why_no_gpu() -> str | None:
    """Return why there is no GPU, or None."""
    import torch
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return f'PyTorch {torch.__version__} is a build for CPUs; install one for CUDA or ROCm'
    return f'PyTorch {torch.__version__} finds no device; nvidia-smi shows whether the driver does'


def card() -> str:
    """Return the name of the GPU, or 'CPU'."""
    import torch
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else 'CPU'
