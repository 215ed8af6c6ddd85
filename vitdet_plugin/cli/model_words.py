"""A model on the command line: one path that stands alone, or a config and a checkpoint, before the inputs."""

import argparse
import os
from pathlib import Path


def split_model(args: argparse.Namespace) -> None:
    """Set ``config`` and ``checkpoint``: the checkpoint is the first input unless the model stands alone.

    Raises:
        UserError: No input remains.
    """
    from vitdet_plugin.checkpoints.work_dirs import holds_weights
    from vitdet_plugin.compat.packaged_configs import shipped_configs
    from vitdet_plugin.errors import UserError
    args.config = args.checkpoint = None
    # the work directory of a shipped config has its name: vitdet_demo vitdet_demo IMAGES is a config and a checkpoint
    is_name = args.model in shipped_configs() and len(args.inputs) > 1 and holds_weights(args.inputs[0])
    if not is_name and (path := whole_model(args.model)):
        args.model = path
        return
    if len(args.inputs) < 2:
        raise UserError(describe_config(args.model, 'a checkpoint and an input'))
    args.config, args.checkpoint, *args.inputs = args.model, *args.inputs


def whole_model(word: str) -> str | None:
    """Return the path of a model that stands alone, or None for a config or nothing.

    A folder with the name of a shipped config is one only if it holds checkpoints.
    """
    from vitdet_plugin.compat.packaged_configs import shipped_configs
    from vitdet_plugin.prediction.run_folder import stands_alone
    if not stands_alone(word):
        return None
    if word not in shipped_configs():
        return word
    return os.path.join(os.curdir, word) if any(Path(word).glob('*.pth')) else None


def describe_config(word: str, missing: str) -> str:
    """Return why a word that is not a whole model cannot be used alone.

    Args:
        word: A config, or something that does not exist.
        missing: What to give after a config.
    """
    from vitdet_plugin.compat.packaged_configs import shipped_configs
    if word in shipped_configs() or '::' in word or os.path.exists(word):
        return f'{word} is a config; give {missing} after it'
    return (f'{word} does not exist; give a work directory of "vitdet train", an exported file, or a config and a '
            'checkpoint')
