"""Arguments that subcommands share, and how command lines are parsed.

Nothing here imports torch or mmengine, so that ``--help`` and errors in arguments are fast.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from vitdet_plugin.cli.old_options import add_key_values, add_old_options, refuse_replaced, report_old_options
from vitdet_plugin.utils.ranks import LAUNCHERS

#: options of :func:`add_prediction_options` with an optional value -> whether a word is its value, for :func:`parse`
PREDICTION_VALUES: dict[str, Callable[[str], bool]] = {'--half': lambda word: word in ('fp16', 'bf16', 'auto')}


def add_prediction_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--dtype``, ``--half``, ``--threads``, ``--tile`` and ``--overlap``."""
    add_dtype_options(parser)
    parser.add_argument('--threads', type=int, metavar='N',
                        help='threads of the processor that the model uses (default: as many as the machine has cores)')
    parser.add_argument('--tile', type=int, metavar='PIXELS',
                        help='predict larger images in tiles of this side, for small objects in large images')
    parser.add_argument('--overlap', type=float, default=0.2, metavar='PART',
                        help='part of a tile that it shares with the next one (default: 0.2)')


def add_dtype_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--dtype`` and ``--half``."""
    parser.add_argument('--dtype', metavar='DTYPE',
                        help='type to predict in: fp32 (the default), bf16, fp16, or auto (bf16 on a CPU or GPU with '
                             'instructions for it, otherwise fp16 on a GPU and fp32 on a CPU)')
    parser.add_argument('--half', nargs='?', const='auto', metavar='DTYPE',
                        help='the same as --dtype auto, or fp16 or bf16')


def add_common_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """Add the arguments that train and test have in common, including those of older toolboxes.

    Args:
        parser: Parser of the command.
        command: ``train`` or ``test``.
    """
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/<config name>)')
    parser.add_argument('--launcher', choices=LAUNCHERS,
                        help='how the ranks were started (default: pytorch under torchrun, otherwise none)')
    add_key_values(parser, 'change variables and keys of the config: max_iters=500 metainfo.classes="[a,b]" '
                           'optim_wrapper.optimizer.lr=1e-4')
    parser.add_argument('--skip-preflight', action='store_true',
                        help='do not check data, classes, checkpoint and disk before starting')
    parser.add_argument('--local-rank', type=local_rank, help='given by python -m torch.distributed.launch')
    add_old_options(parser, command)


def add_config_argument(parser: argparse.ArgumentParser, others: str = '') -> None:
    """Add the positional config; ``others`` is what may be given in its place."""
    parser.add_argument('config', help='config file, folder of vitdet init, name of a shipped config (vitdet_demo), or '
                                       'PACKAGE::CONFIG (mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py)'
                                       + (others and f'; or {others}'))


def add_model_arguments(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    """Add config and checkpoint, for commands that run a trained model.

    Args:
        parser: Parser of the command.
        optional: Whether a folder of ``vitdet init`` or ``vitdet train`` can stand for both. The command must have no
            positional arguments after these.
    """
    add_config_argument(parser)
    words = dict(nargs='?') if optional else {}
    parser.add_argument('checkpoint', help='checkpoint file, work directory, or name of "vitdet weights list"'
                        + ('; not needed after a folder of vitdet init or of a training run' if optional else ''),
                        **words)  # type: ignore[arg-type]


def add_config_options(parser: argparse.ArgumentParser, device: bool = True) -> None:
    """Add ``--cfg-options`` and, unless ``device`` is False, ``--device``."""
    if device:
        parser.add_argument('--device', help='cpu, cuda, cuda:1 … (default: a GPU if there is one)')
    add_key_values(parser, 'change variables and keys of the config: model.test_cfg.rcnn.max_per_img=20')


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None,
          optional_values: dict[str, Callable[[str], bool]] | None = None,
          is_intermixed: bool = False) -> argparse.Namespace:
    """Parse a command line in which ``--work_dir`` and ``--work-dir`` mean the same.

    Args:
        parser: The command's parser.
        argv: Arguments without the program's name; ``sys.argv[1:]`` by default.
        optional_values: For options with an optional value (``--amp [fp16]``), a function that returns whether the
            word after it is that value; otherwise the word is left to the positional arguments.
        is_intermixed: Whether options may stand between the words of a list of positional arguments.
    """
    os.environ.setdefault('OPENCV_LOG_LEVEL', 'FATAL')  # files that cannot be read are named by this package
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')  # names of files that are not UTF-8 can be printed
    words = list(sys.argv[1:] if argv is None else argv)
    normalized = []
    for index, word in enumerate(words):
        if word.startswith('--'):
            name, equals, value = word.partition('=')
            word = name.replace('_', '-') + equals + value
            is_value = (optional_values or {}).get(word)
            following = words[index + 1] if index + 1 < len(words) else None
            if is_value and following is not None and not following.startswith('--') and not is_value(following):
                word += '=auto'
        normalized.append(word)
    refuse_empty(parser, normalized)
    refuse_replaced(parser, normalized)
    args = parser.parse_intermixed_args(normalized) if is_intermixed else parser.parse_args(normalized)
    report_old_options(args)
    if getattr(args, 'local_rank', None) is not None:
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def options_of(args: argparse.Namespace, options: type) -> dict[str, Any]:
    """Return the values of a command line for the fields of a dataclass of options, by name."""
    return {field.name: getattr(args, field.name) for field in fields(options)}


def local_rank(word: str) -> int:
    """Return the number of a rank on its node.

    Raises:
        ArgumentTypeError: It is not a number from 0; -1 stands for a run without ranks in some scripts.
    """
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f'{word}: give a number from 0, or omit it for a run of one process')
    return int(word)


def refuse_empty(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """End with an error if an argument is empty, which otherwise means the default: an unset variable of the shell."""
    for before, word in zip([parser.prog, *words], words):
        if not word.strip() or word.startswith('--') and word.endswith('='):
            name = word if word.strip() else f'{before} {word!r}'
            parser.error(f'{name}: the value is empty; is a variable of the shell not set?')
