"""``vitdet train CONFIG|DATA``: train a detector or classifier."""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from vitdet_plugin.cli.arguments import add_common_arguments, add_config_argument, options_of, parse
from vitdet_plugin.cli.init import (
    add_data_options,
    commands_after_training,
    given_options,
    init_for_training,
    is_data,
    print_commands,
    shown_folder,
)
from vitdet_plugin.cli.process import freeze_imports, run
from vitdet_plugin.utils.stop_signals import stop_signals


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description='Train a detector or classifier from a config file, or on a data set as downloaded, for '
                               'which "vitdet init" first writes a config.')
    add_config_argument(parser, 'a data set (folder, archive or annotation file)')
    add_common_arguments(parser, 'train')
    parser.add_argument('--amp', nargs='?', const='auto', choices=('auto', 'fp16', 'bf16'),
                        help='mixed precision; without a value fp16 on a GPU; on a CPU bf16 if the processor has '
                             'instructions for it, otherwise float32')
    parser.add_argument('--fp16', action='store_const', const='fp16', dest='amp', help='the same as --amp fp16')
    parser.add_argument('--compile', nargs='?', const='auto', metavar='BACKEND',
                        help='compile blocks of the backbone, neck and RPN with torch.compile (default backend: '
                             'inductor)')
    parser.add_argument('--resume', '--resume-from', nargs='?', const='auto', default=False, metavar='PATH',
                        help='continue from PATH, or from the newest checkpoint in the work directory')
    parser.add_argument('--auto-resume', action='store_const', const='auto', dest='resume', help=argparse.SUPPRESS)
    parser.add_argument('--pretrain', '--pretrained', dest='load_from', metavar='PATH', help=argparse.SUPPRESS)
    parser.add_argument('--load-from', metavar='PATH',
                        help='start from these weights: a file, or a work directory (its best checkpoint); overrides '
                             'load_from')
    parser.add_argument('--weights', metavar='NAME',
                        help='start the backbone from these weights: a name of "vitdet weights list", timm:MODEL, or a '
                             'file (overrides its init_cfg)')
    parser.add_argument('--auto-scale-lr', '--autoscale-lr', action='store_true',
                        help="scale the learning rate by batch size / the config's auto_scale_lr.base_batch_size")
    parser.add_argument('--seed', type=int, help='seed of all random number generators')
    parser.add_argument('--deterministic', action='store_true', help='use deterministic algorithms only')
    parser.add_argument('--eval', nargs='*', metavar='METRIC',
                        help='after training, evaluate the best (or else the last) checkpoint on the test split')
    parser.add_argument('--val-loss', action='store_true', help='compute the loss on the validation set too')
    parser.add_argument('--patience', type=int, metavar='N',
                        help='stop after N evaluations in a row without an improvement')
    parser.add_argument('--balance-classes', type=_power, nargs='?', const=0.5, metavar='POWER',
                        help='draw images of rare classes more often: 1 for all classes equally often, 0.5 (default '
                             'without a value) in between')
    parser.add_argument('--background', choices=('keep', 'drop'),
                        help='images without objects in the training set of a detector (default: as in the config)')
    parser.add_argument('--no-validate', action='store_false', dest='validate', help='no evaluation during training')
    add_data_options(parser)
    parser.set_defaults(is_new_data=False)
    return parser


def parse_args(argv: Sequence[str] | None = None, prog: str | None = None) -> argparse.Namespace:
    """Parse a command line of ``vitdet train``; ``--amp`` and ``--resume`` do not consume the config after them."""
    words = list(sys.argv[1:] if argv is None else argv)
    is_value = _is_value_of_resume(words)
    return parse(build_parser(prog), words, {
        '--amp': lambda word: word in ('auto', 'fp16', 'bf16'),
        '--compile': lambda word: word in ('inductor', 'aot_eager', 'eager', 'cudagraphs'),
        '--resume': is_value,
        '--resume-from': is_value,
        '--balance-classes': _is_number,
    })


def _power(word: str) -> float:
    return 0.5 if word == 'auto' else float(word)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _is_value_of_resume(words: Sequence[str]) -> Callable[[str], bool]:
    """Return the function that tells whether a word after ``--resume`` is its value, not the config.

    A work directory may be either: it is the config if the command line has no other one.
    """
    before = [word.partition('=')[0].replace('_', '-') for word in words]
    folders = [word for name, word in zip(before, words[1:]) if name in ('--resume', '--resume-from')
               and any(Path(word).glob('*.py'))]
    if not folders:
        return _is_checkpoint
    trial = [f'{name}=auto' if name in ('--resume', '--resume-from') else word for name, word in zip(before, words)]
    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        if build_parser().parse_known_args(trial)[1]:  # there is one more word than the config
            return lambda word: word in folders or _is_checkpoint(word)
    return _is_checkpoint


def _is_checkpoint(word: str) -> bool:
    if word.endswith('.py') or '::' in word or any(Path(word).glob('*.py')):
        return False
    from vitdet_plugin.compat.packaged_configs import shipped_configs
    return word not in shipped_configs()


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    with stop_signals() as signals:  # from here on, as the imports take seconds
        signals.situation = ' before the first iteration; nothing was saved'
        return run(parse_args(argv, prog), train_command, init_data)


def init_data(args: argparse.Namespace) -> None:
    """Replace a data set in place of a config by the folder that ``vitdet init`` writes for it.

    Raises:
        UserError: It is not a data set of a known format, it has errors, or several processes train on it.
    """
    from vitdet_plugin.config.names import find_config
    from vitdet_plugin.errors import UserError
    if not is_data(args.config):
        if given := given_options(args):
            find_config(args.config)  # raises for a name of nothing
            raise UserError(f'{given}: for a data set, and {args.config} is a config; change its variables (usually '
                            'image_size, batch, max_iters or max_epochs) with --cfg-options NAME=VALUE')
        return
    if args.launcher not in (None, 'none') or 'RANK' in os.environ:
        raise UserError(f'{args.config} holds no config; for several processes, run "vitdet init" first and give the '
                        'folder that it writes')
    out = init_for_training(Path(args.config).expanduser(), args)
    print(f'\ntraining on {shown_folder(out)}; more can be changed in config.py in it', flush=True)
    args.config, args.is_new_data = str(out), True


def train_command(args: argparse.Namespace) -> None:
    from vitdet_plugin.api import train
    from vitdet_plugin.engine.train import TrainOptions
    freeze_imports()
    train(args.config, **options_of(args, TrainOptions))
    if args.is_new_data and args.work_dir is None:
        print_commands(*commands_after_training(Path(args.config)))
