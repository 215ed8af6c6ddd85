"""The error that users of exported models meet."""


class ModelError(ValueError):
    """A model file, an image or an option that cannot be used; one line says what is wrong and what to do."""
