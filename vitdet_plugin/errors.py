"""The one exception that stands for a mistake the user can mend."""


class UserError(Exception):
    """Raised with one line that names the file, key or value at fault and what to do about it.

    The command-line tools print it as ``error: <line>`` and exit with status 2, without a traceback.
    """
