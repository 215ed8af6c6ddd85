"""Signals that ask a program to stop.

SIGINT, which Ctrl-C sends; SIGTERM; SIGHUP when the terminal is closed; SIGUSR1 and SIGUSR2, which batch systems send
some time before the end of a job if they are asked to (``sbatch --signal=USR1@120``).
"""

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vitdet_plugin.errors import Interrupted

NAMES = {signal.SIGINT: 'Ctrl-C', signal.SIGHUP: 'SIGHUP', signal.SIGUSR1: 'SIGUSR1', signal.SIGUSR2: 'SIGUSR2',
         signal.SIGTERM: 'SIGTERM'}


class StopSignals:
    """The stop signal that this process received, and how to respond to it.

    The first signal raises :class:`Interrupted`, or with ``is_deferred`` only sets ``received``, so that the program
    can stop where its state can be saved. A second one has its usual effect: it ends the process at once, except for
    SIGHUP, which kernel and shell both send.

    Attributes:
        received: Number of the signal, or None.
        is_deferred: Whether the program checks ``received`` itself.
        situation: Words for the message, after "stopped by Ctrl-C".
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.is_deferred = False
        self.situation = ''
        self._before: dict[int, Any] = {}
        self._pid = os.getpid()

    def install(self) -> None:
        """Start to handle the signals; outside the main thread, the calling program handles them."""
        for number in NAMES:
            before = signal.getsignal(number)
            if before in (signal.SIG_IGN, None):  # nohup, a job in the background of a script
                continue
            try:
                signal.signal(number, self._on_signal)
            except ValueError:
                return
            self._before[number] = before

    def restore(self) -> None:
        """Restore the former handlers."""
        while self._before:
            signal.signal(*self._before.popitem())

    def _on_signal(self, number: int, frame: object) -> None:
        if os.getpid() != self._pid:
            self._on_signal_in_child(number)
            return
        if number == signal.SIGHUP:
            _discard_output_to_closed_terminal()
        if self.received is not None:
            if number == signal.SIGHUP:
                return
            self.restore()
            signal.raise_signal(number)
            return
        self.received = number
        if not self.is_deferred:
            raise Interrupted(f'stopped by {NAMES[signal.Signals(number)]}{self.situation}', 128 + number)

    def _on_signal_in_child(self, number: int) -> None:
        """Handle a signal in a forked process.

        Ctrl-C in a terminal, and SIGTERM from some batch systems, reach data workers together with the main process,
        which may need them until it can stop; it ends them itself.
        """
        if number == signal.SIGTERM and (self.received is not None or not _is_data_worker()):
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number


def _discard_output_to_closed_terminal() -> None:
    """Open the null device in place of standard streams to a closed terminal, to which writing would be an error."""
    for stream in (1, 2):
        poll = select.poll()
        poll.register(stream, 0)
        if any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0)):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def _is_data_worker() -> bool:
    data = sys.modules.get('torch.utils.data')
    return data is not None and data.get_worker_info() is not None


_active: StopSignals | None = None


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Handle stop signals within this context; a nested context shares the handlers of the outer one."""
    global _active
    if _active is not None:
        yield _active
        return
    _active = signals = StopSignals()
    signals.install()
    try:
        yield signals
    finally:
        signals.restore()
        _active = None
