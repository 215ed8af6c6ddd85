"""Entry point of ``vitdet``: selects the subcommand and imports only its module."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NoReturn

# command -> one line for `vitdet --help`; its module has the same name, with _ instead of -
COMMANDS = {
    'init': 'recognize a data set, convert it, and write a config to train on it',
    'train': 'train a detector or classifier from a config',
    'test': "evaluate a checkpoint on a config's test split",
    'predict': 'detect objects in images, or classify them',
    'serve': 'start a web page and a JSON endpoint for a model',
    'report': 'write a report of what a model gets right and wrong',
    'export': 'export a model to ONNX, OpenVINO or a torch program',
    'bench': 'measure latency, throughput and accuracy by backend',
    'convert': 'convert checkpoints, or annotations to COCO, VOC and YOLO',
    'weights': 'list, download and verify published weights',
    'check': 'check the annotations and images of a data set',
    'split': 'split a folder of classes into train, val and test',
    'stats': 'count classes, sizes, broken and duplicate images of a data set',
    'mean-std': 'compute mean and standard deviation of the training images',
    'browse': 'draw training samples before and after augmentation',
    'curves': 'plot losses and metrics of training runs',
    'cam': 'draw class activation maps',
    'flops': 'count parameters and operations, measure speed and memory',
    'demo': 'create a small data set, train on it, evaluate, draw results',
    'token-labels': 'write soft labels of image locations for token labeling',
    'gpu-check': 'prove and time this package on the GPU of this machine',
    'goldens': 'compare with reference outputs (source checkout only)',
}
# these may run as one of several ranks, or have threads that cannot be waited for
_LEAVING_COMMANDS = ('train', 'test', 'serve', 'predict')


def command_module(name: str):
    """Import the module of a subcommand; it has ``build_parser(prog)`` and ``main(argv, prog)``."""
    return importlib.import_module(f'vitdet_plugin.cli.{name.replace("-", "_")}')


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``vitdet`` itself; each subcommand has its own."""
    lines = '\n'.join(f'  {name:<13} {summary}' for name, summary in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog='vitdet', usage='vitdet COMMAND [ARGUMENTS]', formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f'ViTDet and other backbones for mmdetection and mmpretrain.\n\ncommands:\n{lines}',
        epilog='"vitdet COMMAND --help" lists the arguments of a command.')
    parser.add_argument('--version', action='store_true', help='print the version and exit')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``vitdet`` with these arguments (``sys.argv[1:]`` by default); returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0].replace('_', '-').startswith('--local-rank='):
        words.append(words.pop(0))  # torch.distributed.launch puts it first; it belongs to the subcommand
    name = _command_of(words)
    if name is not None:
        return command_module(name).main(words[1:], prog=f'vitdet {name}')
    if words and not words[0].startswith('-'):
        from vitdet_plugin.utils.text import suggest
        print(f'error: unknown command {words[0]!r}{suggest(words[0], COMMANDS)}; "vitdet --help" lists the commands',
              file=sys.stderr)
        return 2
    parser = build_parser()
    if parser.parse_args(words).version:
        from vitdet_plugin import __version__
        print(f'vitdet {__version__}')
        return 0
    parser.print_help()
    return 0


def _command_of(words: Sequence[str]) -> str | None:
    name = words[0].replace('_', '-') if words else None
    return name if name in COMMANDS else None


def run_and_exit() -> NoReturn:
    """Run ``vitdet`` and end the process with its status: the console script."""
    from vitdet_plugin.cli.process import leave, open_closed_streams
    open_closed_streams()
    if '_ARGCOMPLETE' in os.environ:
        complete()
    status = main()
    if _command_of([word for word in sys.argv[1:] if not word.startswith('--local')]) in _LEAVING_COMMANDS:
        leave(status)
    sys.exit(status)


def complete() -> None:
    """Answer a request of the shell for completions, if argcomplete is installed."""
    try:
        import argcomplete
    except ImportError:
        return
    parser = argparse.ArgumentParser(prog='vitdet')
    parser.add_argument('--version', action='store_true')
    commands = parser.add_subparsers()
    files = argcomplete.FilesCompleter()
    names = [*importlib.import_module('vitdet_plugin.compat.packaged_configs').shipped_configs()]
    parts = {'convert': ('source', command_module('convert_dataset').CONVERSIONS),
             'weights': ('names', command_module('weights').table_names()),
             'init': ('model', sorted(command_module('init').MODELS)),
             'demo': ('config', [*names, *command_module('demo').PARTS])}
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, add_help=False,
                                      parents=[command_module(name).build_parser(f'vitdet {name}')])
        words = {'config': names, 'configs': names, **dict([parts[name]] if name in parts else [])}
        for action in command._actions:
            if action.dest in words:
                action.completer = partial(_words_and_files, words[action.dest], files)
    argcomplete.autocomplete(parser)


def _words_and_files(words: Sequence[str], files: Callable[..., Iterable[str]], prefix: str, **kwargs) -> list[str]:
    return [*(word for word in words if word.startswith(prefix)), *files(prefix, **kwargs)]
