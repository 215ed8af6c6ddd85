"""Options of mmdet 2 and EasyCV: those without effect are accepted with a notice, others name their replacement."""

import argparse

from vitdet_plugin.utils.output import warn

_DEVICES = 'CUDA_VISIBLE_DEVICES selects devices and torchrun --nproc-per-node N starts N ranks'
_COLLECTING = 'the results of all ranks are collected in any case'
# option -> (number of its values, command that has it, why it has no effect)
_NO_EFFECT: dict[str, tuple[str | int, str, str]] = {
    '--gpus': (1, 'both', _DEVICES), '--gpu-ids': ('+', 'both', _DEVICES), '--gpu-id': (1, 'both', _DEVICES),
    '--gpu-collect': (0, 'test', _COLLECTING), '--tmpdir': (1, 'test', _COLLECTING),
    '--fuse-conv-bn': (0, 'test', 'the layers are evaluated one by one'),
    '--validate': (0, 'train', 'a training evaluates by default; --no-validate turns it off'),
}
_REPLACED = {
    '--diff-seed': '--cfg-options randomness.diff_rank_seed=True', '--port': 'torchrun --master-port',
    '--fp16': '--dtype fp16', '--amp': '--dtype auto',
    '--model-type': 'the name of a config', '--eval-options': '--cfg-options test_evaluator.KEY=VALUE',
    '--show': '--show-dir DIR', '--wait-time': '--show-dir DIR', '--out-items': '--out FILE',
    '--no-pin-memory': '--cfg-options SPLIT_dataloader.pin_memory=False', '--interval': '--show-max N',
    '--no-persistent-workers': '--cfg-options SPLIT_dataloader.persistent_workers=False',
    '--metrics': '--eval METRIC', '--metric': '--eval METRIC', '--dist-params': 'VITDET_DIST_TIMEOUT for the timeout',
}


def add_old_options(parser: argparse.ArgumentParser, command: str) -> None:
    """Add the options that are accepted with a notice.

    Args:
        parser: Parser of the command.
        command: ``train`` or ``test``.
    """
    for option, (values, where, _) in _NO_EFFECT.items():
        if where in ('both', command):
            settings = dict(action='store_true') if values == 0 else dict(nargs=values)
            parser.add_argument(option, dest=_dest(option), help=argparse.SUPPRESS, **settings)  # type: ignore[arg-type]


def add_key_values(parser: argparse.ArgumentParser, text: str) -> None:
    """Add ``--cfg-options`` with its help text, and its older names."""
    settings = dict(dest='cfg_options', nargs='+', action='extend', metavar='KEY=VALUE')
    parser.add_argument('--cfg-options', default=[], help=text, **settings)  # type: ignore[arg-type]
    parser.add_argument('--options', '--user-config-params', default=argparse.SUPPRESS, help=argparse.SUPPRESS,
                        **settings)  # type: ignore[arg-type]


def report_old_options(args: argparse.Namespace) -> None:
    """Print one line for each given option without effect."""
    for option, (_, _, why) in _NO_EFFECT.items():
        if getattr(args, _dest(option), None):
            warn(f'{option} has no effect: {why}')


def refuse_replaced(parser: argparse.ArgumentParser, words: list[str]) -> None:
    """End with one line if a word is an option with another name here."""
    known = parser._option_string_actions
    for word in words:
        option = word.partition('=')[0]
        new = _REPLACED.get(option, '')
        if new and option not in known and (not new.startswith('--') or new.split()[0] in known):
            parser.error(f'{option} is an option of other toolboxes; use {new}')


def _dest(option: str) -> str:
    return 'old_' + option.strip('-').replace('-', '_')
