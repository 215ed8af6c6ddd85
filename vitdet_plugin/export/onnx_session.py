"""The input of exported models, in words."""


def describe_channels(channels: int) -> str:
    """Return the order of the channels of the input: RGB if there are 3, else as in the image file."""
    return {1: 'gray', 3: 'RGB'}.get(channels, f'{channels} channels as in the image file')
