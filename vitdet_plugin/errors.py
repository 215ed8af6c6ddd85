"""The exception for mistakes that the user can fix."""


class UserError(Exception):
    """A mistake in the input. The message is one line: the file, key or value at fault, and how to fix it.

    The command-line tools print it as ``error: <line>`` and exit with status 2, without a traceback.
    """
