"""Exceptions that the command-line tools print as one line."""


class UserError(Exception):
    """A mistake in the input. The message is one line: the file, key or value at fault, and how to fix it.

    The command-line tools print it as ``error: <line>`` and exit with status 2, without a traceback.
    """


class Interrupted(KeyboardInterrupt):
    """The program was stopped by a signal.

    Args:
        message: One line: the signal, what was saved, how to continue.
        status: Exit status.
    """

    def __init__(self, message: str, status: int = 130):
        super().__init__(message)
        self.status = status
