"""Shared by the subcommands: common arguments, parsing, early checks of input files, one-line errors.

Nothing here imports torch or mmengine, so that ``--help`` and errors in arguments are fast.
"""

import argparse
import atexit
import errno
import gc
import glob
import io
import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from vitdet_plugin.cli.old_options import add_key_values, add_old_options, refuse_replaced, report_old_options
from vitdet_plugin.utils.ranks import LAUNCHERS, is_first_rank
from vitdet_plugin.utils.scores import check_score
from vitdet_plugin.utils.text import escape

# what users can change; other errors of the operating system are faults of the program
_OF_USERS = {getattr(errno, name) for name in ('EACCES', 'EPERM', 'ENOSPC', 'EROFS', 'EDQUOT', 'ENAMETOOLONG', 'EMFILE',
                                              'ENOENT', 'ENOTDIR', 'EISDIR') if hasattr(errno, name)}
MOST_THREADS = 1024
_WEIGHTS = ('checkpoint', 'load_from', 'source', 'weights')  # these may be names of published weights
# arguments that name existing files -> what to give instead of a missing one
_INPUT_FILES = {
    'checkpoint': 'give a checkpoint file or a work directory',
    'load_from': 'give a checkpoint file or a work directory',
    'source': 'give a checkpoint file',
    'inputs': 'give an image or a folder of images',
    'weights': 'give a checkpoint file or a name of "vitdet weights list"',
    'folder': 'give the folder of the images',
    'ann': 'give an annotation file',
    'path': 'give an annotation file or the folder of a data set',
    'logs': 'give a work directory or a scalars.json file',
}


# arguments that name files to write -> their option
_OUTPUTS = {'out': '--out', 'json': '--json', 'markdown': '--markdown'}

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


def print_precision(precision: str, *asked: str | None) -> None:
    """Print the type that is used, if one of the options was given."""
    if any(asked):
        reason = {'bf16': ': the device has instructions for bfloat16', 'fp16': '', 'fp32': ''}.get(precision, '')
        print(f'predicting in {precision}{reason}', file=sys.stderr, flush=True)


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


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """Add the positional config."""
    parser.add_argument('config', help='config file, folder of vitdet init, name of a shipped config (vitdet_demo), or '
                                       'PACKAGE::CONFIG (mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py)')


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


def check_inputs(args: argparse.Namespace) -> None:
    """Check that the config and the input files exist and ``--cfg-options`` can be read, before any slow import.

    A missing optional checkpoint is replaced by the work directory of the folder that the config names.

    Raises:
        UserError: Names the first file that does not exist, or the word that is not KEY=VALUE.
    """
    from vitdet_plugin.checkpoints.published import explain_unknown, is_name
    from vitdet_plugin.config.names import find_config
    from vitdet_plugin.config.option_words import split_options
    from vitdet_plugin.errors import UserError
    configs = [] if getattr(args, 'plan', False) else _paths(args, 'configs')  # names of models are no files
    for config in _paths(args, 'config') + configs:
        if '::' not in config:  # finding another package's configs imports mmengine
            find_config(config)
    for name, advice in _INPUT_FILES.items():
        for path in _paths(args, name):
            is_other = name == 'inputs' and (path == '-' or path.startswith('camera:') or glob.has_magic(path))
            if '://' in path or is_other or os.path.exists(path) or name in _WEIGHTS and is_name(path):
                continue
            hint = explain_unknown(path) if name in _WEIGHTS else ''
            raise UserError(f'{path} does not exist; {advice}{hint}')
    if getattr(args, 'config', None) and getattr(args, 'checkpoint', '') is None:
        from vitdet_plugin.prediction.run_folder import checkpoint_folder
        args.checkpoint = str(checkpoint_folder(args.config))
    for name in ('score_thr', 'show_score_thr'):
        score = getattr(args, name, None)
        if score is not None:
            check_score(score, f'--{name.replace("_", "-")} {score:g}')
    _check_numbers(args)
    _check_outputs(args)
    options = split_options(getattr(args, 'cfg_options', None) or ())
    if options and getattr(args, 'config', None) and '::' not in args.config:
        from vitdet_plugin.config.overrides import check_option_keys
        check_option_keys(find_config(args.config), options)


def _check_numbers(args: argparse.Namespace) -> None:
    """Check the numbers that several commands take, whether they have an effect or not."""
    from vitdet_plugin.errors import UserError
    for name, largest in (('threads', MOST_THREADS), ('workers', MOST_THREADS), ('top', None)):
        value = getattr(args, name, None)
        if isinstance(value, int) and (value < 1 or largest is not None and value > largest):
            what = f'a number of threads from 1 to {largest}' if largest else 'a number from 1'
            raise UserError(f'--{name} {value}: give {what}')
    if hasattr(args, 'overlap'):
        from vitdet_plugin.prediction.tiles import Tiling, check_overlap
        check_overlap(args.overlap)
        if args.tile is not None:
            Tiling(args.tile, args.overlap)


def check_at_least(args: argparse.Namespace, **least: int) -> None:
    """Check numbers of a command that have a smallest value; None and missing arguments are skipped.

    Raises:
        UserError: Names the first option that is below its smallest value.
    """
    from vitdet_plugin.errors import UserError
    for name, smallest in least.items():
        value = getattr(args, name, None)
        values = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
        if any(each < smallest for each in values):
            raise UserError(f'--{name.replace("_", "-")} {" ".join(map(str, values))}: give a number of at least '
                            f'{smallest}')


def _check_outputs(args: argparse.Namespace) -> None:
    """Check that no argument that names a file to write names a file that another argument reads."""
    from vitdet_plugin.utils.paths import check_inputs_are_kept
    inputs = [path for name in vars(args) if name not in _OUTPUTS for path in _paths(args, name)
              if isinstance(path, (str, os.PathLike)) and os.path.isfile(path)]
    for name, option in _OUTPUTS.items():
        outputs = [path for path in _paths(args, name) if isinstance(path, (str, os.PathLike)) and os.path.isfile(path)]
        check_inputs_are_kept(option, outputs, inputs)


def _paths(args: argparse.Namespace, name: str) -> list[str]:
    value = getattr(args, name, None)
    values = value if isinstance(value, (list, tuple)) else [value]
    return [str(each) for each in values if each]


def run(args: argparse.Namespace, action: Callable[[argparse.Namespace], int | None],
        prepare: Callable[[argparse.Namespace], None] | None = None) -> int:
    """Run ``action(args)``; a ``UserError``, or a file that cannot be written, becomes one line and status 2.

    With ``VITDET_DEBUG=1`` the traceback is shown instead. If the reader of the output ends early, the status is 141.

    Args:
        args: Parsed arguments; input files that they name are checked first.
        action: Returns the exit status, or None for 0.
        prepare: Completes the arguments before they are checked.
    """
    from vitdet_plugin.errors import UserError
    try:
        if prepare is not None:
            prepare(args)
        check_inputs(args)
        status = action(args) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        if not _is_output_closed():
            raise
        return 141  # as a process that SIGPIPE ends
    except UserError as error:
        if os.environ.get('VITDET_DEBUG') == '1':
            raise
        return _report(str(error))
    except OSError as error:
        if os.environ.get('VITDET_DEBUG') == '1' or error.errno not in _OF_USERS:
            raise
        name = error.filename or ('a file' if _flush_output('\n') else 'standard output')
        return _report(f'{name}: {error.strerror}; VITDET_DEBUG=1 shows where')
    except KeyboardInterrupt as interrupt:
        _flush_output()
        if is_first_rank():
            print(str(interrupt) or 'stopped', file=sys.stderr, flush=True)
        return getattr(interrupt, 'status', 130)


def _report(message: str) -> int:
    """Print an error and return the exit status."""
    _flush_output()
    rank = ''
    if not is_first_rank():  # an error common to all ranks is printed by the first, whose exit ends the others
        time.sleep(3)
        rank = f'rank {os.environ.get("RANK")}: '
    print(f'error: {rank}{escape(message)}', file=sys.stderr, flush=True)
    return 2


def _flush_output(text: str = '') -> bool:
    """Write a text to standard output; return False if that is not possible, after which all output is discarded."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        _discard_output()
        return False
    return True


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_output_closed() -> bool:
    """Whether the reader of the output, such as ``head``, has ended; the rest of the output is then discarded."""
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, select.POLLOUT)
    closed = any(event & select.POLLERR for _, event in poll.poll(0))
    if closed:
        _discard_output()
    return closed


def open_closed_streams() -> None:
    """Open the null device in place of the standard streams that are closed, as by ``>&-`` of a shell.

    Files that are opened later would get their numbers.
    """
    for number, name in enumerate(('stdin', 'stdout', 'stderr')):
        if getattr(sys, name) is not None:
            continue
        handle = os.open(os.devnull, os.O_RDWR)
        if handle != number:
            os.dup2(handle, number)
            os.close(handle)
        os.set_inheritable(number, True)
        stream = open(number, 'r' if name == 'stdin' else 'w', encoding='utf-8', closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f'__{name}__', stream)


def freeze_imports() -> None:
    """Exclude what was imported from garbage collection.

    mmengine collects garbage for every data set, which takes 0.7 s with the modules of torch and mmdet; memory that
    data workers share with the process stays shared. For commands that have imported everything and usually end with
    the process; a second call does nothing, so that what other calls leave behind is collected.
    """
    if not gc.get_freeze_count():
        gc.freeze()


def leave(status: int) -> NoReturn:
    """Run the exit handlers and end the process with ``status``, without finalizing the interpreter.

    For commands that run as ranks: if a thread of gloo releases a tensor while Python is finalized, the process aborts,
    and a rank that has done all its work would count as failed.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
