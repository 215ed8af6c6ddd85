"""The process of a command: errors in one line, exit status, standard streams."""

import argparse
import atexit
import errno
import gc
import os
import select
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from vitdet_plugin.cli.checks import check_inputs
from vitdet_plugin.utils.ranks import is_first_rank
from vitdet_plugin.utils.text import escape

# what users can change; other errors of the operating system are faults of the program
_OF_USERS = {getattr(errno, name) for name in ('EACCES', 'EPERM', 'ENOSPC', 'EROFS', 'EDQUOT', 'ENAMETOOLONG', 'EMFILE',
                                              'ENOENT', 'ENOTDIR', 'EISDIR') if hasattr(errno, name)}


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


def print_precision(precision: str, *asked: str | None) -> None:
    """Print the type that is used, if one of the options was given."""
    if any(asked):
        reason = {'bf16': ': the device has instructions for bfloat16', 'fp16': '', 'fp32': ''}.get(precision, '')
        print(f'predicting in {precision}{reason}', file=sys.stderr, flush=True)


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
