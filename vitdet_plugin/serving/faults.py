"""Faults of requests."""


class RequestFault(Exception):
    """A request that is not answered with a result.

    Args:
        status: HTTP status.
        message: One line: what is wrong, and what to do.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
