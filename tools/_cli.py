"""What the command-line tools share: import path, forgiving spelling, one-line errors.

Light on purpose: nothing here imports torch or the package before the arguments are parsed, so ``--help`` answers at
once.
"""

import argparse
import atexit
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


def use_checkout() -> None:
    """Put the checkout in the place of ``tools/`` and its folders on the import path.

    ``tools/test.py`` would hide Python's ``test``, ``tools/export/onnx.py`` the package of that name.
    """
    tools = ROOT / 'tools'
    sys.path[:] = [str(ROOT)] + [entry for entry in sys.path
                                 if entry != str(ROOT) and tools not in (Path(entry), *Path(entry).parents)]


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that train.py and test.py have in common, old habits included."""
    parser.add_argument('--work-dir', help='where logs and checkpoints go (default: work_dirs/<config name>)')
    parser.add_argument('--launcher', choices=LAUNCHERS,
                        help='how the ranks were started (default: pytorch under torchrun, otherwise none)')
    parser.add_argument('--cfg-options', '--options', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
                        help='change keys of the config: optim_wrapper.optimizer.lr=1e-4 model.backbone.depth=4 '
                             'classes="[a,b]"')
    parser.add_argument('--skip-preflight', action='store_true',
                        help='do not check data, classes, checkpoint and disk before starting')
    parser.add_argument('--local-rank', type=int, help='given by python -m torch.distributed.launch')
    for habit in ('--gpus', '--gpu-ids', '--gpu-id'):
        parser.add_argument(habit, nargs='+', help=argparse.SUPPRESS)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add config and checkpoint, for tools that look at a trained model."""
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or work directory')


def add_config_options(parser: argparse.ArgumentParser, device: bool = True) -> None:
    """Add what changes the config and, unless told otherwise, chooses the device."""
    if device:
        parser.add_argument('--device', help='cpu, cuda, cuda:1 … (default: a GPU if there is one)')
    parser.add_argument('--cfg-options', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
                        help='change keys of the config: model.test_cfg.rcnn.max_per_img=20')


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None,
          optional_values: dict | None = None) -> argparse.Namespace:
    """Parse a command line in which ``--work_dir`` and ``--work-dir`` mean the same.

    Args:
        parser: The tool's parser.
        argv: Arguments without the program's name; ``sys.argv[1:]`` by default.
        optional_values: For options with an optional value (``--amp [fp16]``), a function that says whether the word
            after it is that value; otherwise the word is left to the positional arguments.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    tidy = []
    for index, word in enumerate(words):
        if word.startswith('--'):
            name, equals, value = word.partition('=')
            word = name.replace('_', '-') + equals + value
            is_value = (optional_values or {}).get(word)
            following = words[index + 1] if index + 1 < len(words) else None
            if is_value and following is not None and not following.startswith('--') and not is_value(following):
                word += '=auto'
        tidy.append(word)
    args = parser.parse_args(tidy)
    _adopt_old_habits(args)
    return args


def _adopt_old_habits(args: argparse.Namespace) -> None:
    for habit in ('gpus', 'gpu_ids', 'gpu_id'):
        if getattr(args, habit, None):
            warn(f'--{habit.replace("_", "-")} has no effect: CUDA_VISIBLE_DEVICES selects devices and '
                 'torchrun --nproc-per-node N starts N ranks')
    if getattr(args, 'local_rank', None) is not None:
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))


def warn(line: str) -> None:
    if is_first_rank():
        print(f'warning: {line}', file=sys.stderr)


def is_first_rank() -> bool:
    return all(os.environ.get(name, '0') == '0' for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'))


def run(action: Callable[[], int | None]) -> int:
    """Run ``action``, which may give an exit status; a ``UserError`` becomes one ``error:`` line and status 2.

    ``VITDET_DEBUG=1`` shows the traceback behind the line.
    """
    from vitdet_plugin.errors import UserError
    try:
        return action() or 0
    except UserError as error:
        if os.environ.get('VITDET_DEBUG') == '1':
            raise
        sys.stdout.flush()
        rank = ''
        if not is_first_rank():  # a mistake that all ranks share is said by the first, whose end ends the others
            time.sleep(3)
            rank = f'rank {os.environ.get("RANK")}: '
        print(f'error: {rank}{error}', file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print('stopped', file=sys.stderr)
        return 130


def leave(status: int) -> NoReturn:
    """End the process with ``status``, after its exit handlers but without taking the interpreter down.

    For tools that run as ranks: a thread of gloo that lets go of a tensor while Python is being taken down aborts the
    process, and a rank that has done all its work would count as failed.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
