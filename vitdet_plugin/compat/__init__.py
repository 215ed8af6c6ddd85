"""What the OpenMMLab stack needs in order to run here; nothing outside this room patches anything."""


def install() -> None:
    """Make the stack usable on this machine; safe to call more than once."""
