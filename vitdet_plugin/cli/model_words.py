"""A model on the command line: one path that stands alone, or a config and a checkpoint, before the inputs."""

import argparse
import os
import sys
from pathlib import Path


def split_model(args: argparse.Namespace) -> bool:
    """Set ``config`` and ``checkpoint``: the checkpoint is the first input unless the model stands alone.

    Returns:
        Whether an input remains; if not, an error was printed.
    """
    from vitdet_plugin.compat.packaged_configs import shipped_configs
    from vitdet_plugin.prediction.run_folder import stands_alone
    # the work directory of a shipped config has its name: vitdet_demo vitdet_demo IMAGES is a config and a checkpoint
    is_name = args.model in shipped_configs() and (
        not any(Path(args.model).glob('*.pth')) or len(args.inputs) > 1 and _holds_weights(Path(args.inputs[0])))
    args.config = args.checkpoint = None
    if stands_alone(args.model) and not is_name:
        if args.model in shipped_configs():
            args.model = os.path.join(os.curdir, args.model)  # the folder, not the config of this name
        return True
    if len(args.inputs) < 2:
        is_there = args.model in shipped_configs() or '::' in args.model or os.path.exists(args.model)
        print(f'error: {args.model} ' + ('is a config; give a checkpoint and an input after it' if is_there else
                                         'does not exist; give a work directory of "vitdet train", an exported file, '
                                         'or a config and a checkpoint'), file=sys.stderr)
        return False
    args.config, args.checkpoint, *args.inputs = args.model, *args.inputs
    return True


def _holds_weights(path: Path) -> bool:
    from vitdet_plugin.prediction.run_folder import CHECKPOINTS
    return path.suffix.lower() in CHECKPOINTS or any(path.glob('*.pth'))
