"""Early checks of arguments: input files, numbers, and outputs that would replace inputs.

Nothing here imports torch or mmengine at the top, so that errors in arguments are fast.
"""

import argparse
import glob
import os

from vitdet_plugin.utils.scores import check_score

MOST_THREADS = 1024
_WEIGHTS = ('checkpoint', 'load_from', 'source', 'weights')  # these may be names of published weights
# arguments that name existing files -> what to give instead of a missing one
_INPUT_FILES = {
    'checkpoint': 'give a checkpoint file or a work directory',
    'load_from': 'give a checkpoint file or a work directory',
    'source': 'give a checkpoint file',
    'inputs': 'give an image or a folder of images',
    'weights': 'give a checkpoint file or a name of "vitdet weights list"',
    'folder': 'give the folder of the images',
    'ann': 'give an annotation file',
    'path': 'give an annotation file or the folder of a data set',
    'logs': 'give a work directory or a scalars.json file',
}
# arguments that name files to write -> their option
_OUTPUTS = {'out': '--out', 'json': '--json', 'markdown': '--markdown'}


def check_inputs(args: argparse.Namespace) -> None:
    """Check that the config and the input files exist and ``--cfg-options`` can be read, before any slow import.

    A missing optional checkpoint is replaced by the work directory of the folder that the config names.

    Raises:
        UserError: Names the first file that does not exist, or the word that is not KEY=VALUE.
    """
    from vitdet_plugin.checkpoints.published import explain_unknown, is_name
    from vitdet_plugin.config.names import find_config
    from vitdet_plugin.config.option_words import split_options
    from vitdet_plugin.errors import UserError
    configs = [] if getattr(args, 'plan', False) else _paths(args, 'configs')  # names of models are no files
    for config in _paths(args, 'config') + configs:
        if '::' not in config:  # finding another package's configs imports mmengine
            find_config(config)
    for name, advice in _INPUT_FILES.items():
        for path in _paths(args, name):
            is_other = name == 'inputs' and (path == '-' or path.startswith('camera:') or glob.has_magic(path))
            if '://' in path or is_other or os.path.exists(path) or name in _WEIGHTS and is_name(path):
                continue
            hint = explain_unknown(path) if name in _WEIGHTS else ''
            raise UserError(f'{path} does not exist; {advice}{hint}')
    if getattr(args, 'config', None) and getattr(args, 'checkpoint', '') is None:
        from vitdet_plugin.prediction.run_folder import checkpoint_folder
        args.checkpoint = str(checkpoint_folder(args.config))
    for name in ('score_thr', 'show_score_thr'):
        score = getattr(args, name, None)
        if score is not None:
            check_score(score, f'--{name.replace("_", "-")} {score:g}')
    _check_numbers(args)
    _check_outputs(args)
    options = split_options(getattr(args, 'cfg_options', None) or ())
    if options and getattr(args, 'config', None) and '::' not in args.config:
        from vitdet_plugin.config.overrides import check_option_keys
        check_option_keys(find_config(args.config), options)


def _check_numbers(args: argparse.Namespace) -> None:
    """Check the numbers that several commands take, whether they have an effect or not."""
    from vitdet_plugin.errors import UserError
    for name, largest in (('threads', MOST_THREADS), ('workers', MOST_THREADS), ('top', None)):
        value = getattr(args, name, None)
        if isinstance(value, int) and (value < 1 or largest is not None and value > largest):
            what = f'a number of threads from 1 to {largest}' if largest else 'a number from 1'
            raise UserError(f'--{name} {value}: give {what}')
    if hasattr(args, 'overlap'):
        from vitdet_plugin.prediction.tiles import Tiling, check_overlap
        check_overlap(args.overlap)
        if args.tile is not None:
            Tiling(args.tile, args.overlap)


def check_at_least(args: argparse.Namespace, **least: int) -> None:
    """Check numbers of a command that have a smallest value; None and missing arguments are skipped.

    Raises:
        UserError: Names the first option that is below its smallest value.
    """
    from vitdet_plugin.errors import UserError
    for name, smallest in least.items():
        value = getattr(args, name, None)
        values = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
        if any(each < smallest for each in values):
            raise UserError(f'--{name.replace("_", "-")} {" ".join(map(str, values))}: give a number of at least '
                            f'{smallest}')


def _check_outputs(args: argparse.Namespace) -> None:
    """Check that no argument that names a file to write names a file that another argument reads."""
    from vitdet_plugin.utils.paths import check_inputs_are_kept
    inputs = [path for name in vars(args) if name not in _OUTPUTS for path in _paths(args, name)
              if isinstance(path, (str, os.PathLike)) and os.path.isfile(path)]
    for name, option in _OUTPUTS.items():
        outputs = [path for path in _paths(args, name) if isinstance(path, (str, os.PathLike)) and os.path.isfile(path)]
        check_inputs_are_kept(option, outputs, inputs)


def _paths(args: argparse.Namespace, name: str) -> list[str]:
    value = getattr(args, name, None)
    values = value if isinstance(value, (list, tuple)) else [value]
    return [str(each) for each in values if each]
