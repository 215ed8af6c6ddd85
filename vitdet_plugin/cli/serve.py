"""``vitdet serve MODEL``: a web page and a JSON endpoint for a model."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.cli.arguments import PREDICTION_VALUES, add_config_options, add_prediction_options, parse
from vitdet_plugin.cli.model_words import describe_config, whole_model
from vitdet_plugin.cli.process import print_precision, run

_DESCRIPTION = """\
Start a web page on which images are uploaded and results are shown, and an endpoint that answers in JSON.

  vitdet serve work_dirs/NAME
  vitdet serve model.onnx --port 8080
  vitdet serve CONFIG CHECKPOINT
  curl -F file=@image.jpg "http://127.0.0.1:8000/predict?threshold=0.5"
"""


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, formatter_class=argparse.RawDescriptionHelpFormatter, description=_DESCRIPTION)
    parser.add_argument('model', metavar='MODEL', help='work directory of a training or folder of vitdet init (config '
                        'and best checkpoint), checkpoint in one, file of "vitdet export" (.onnx, .xml), or CONFIG '
                        'CHECKPOINT')
    parser.add_argument('checkpoint', nargs='?', metavar='CHECKPOINT',
                        help='checkpoint file, work directory, or name of "vitdet weights list", after a config')
    parser.add_argument('--host', default='127.0.0.1', metavar='H',
                        help='address of the interface to listen on; 0.0.0.0 lets other machines use the model, '
                             'without a password (default: 127.0.0.1, this machine only)')
    parser.add_argument('--port', type=int, default=8000, metavar='P',
                        help='port; 0 for any free one, which is printed (default: 8000)')
    parser.add_argument('--allow-host', action='append', default=[], metavar='NAME',
                        help='a name, besides localhost and IP addresses, by which browsers may address the server')
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='S',
                        help='lowest score of objects, unless a request gives another one (default: 0.3)')
    parser.add_argument('--max-mb', type=float, default=20, metavar='MB',
                        help='largest upload in megabytes (default: 20)')
    parser.add_argument('--max-mp', type=float, default=50, metavar='MP',
                        help='largest image in millions of pixels (default: 50)')
    add_prediction_options(parser)
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    args = parse(build_parser(prog), argv, PREDICTION_VALUES)
    args.config = args.model if args.checkpoint is not None else None
    return run(args, serve_command)


def serve_command(args: argparse.Namespace) -> int:
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.serving.server import address_of, check_packages, is_local, make_server, open_socket
    check_packages()
    settings = _settings(args)
    model = args.model if args.checkpoint is not None else whole_model(args.model)
    if model is None:
        raise UserError(describe_config(args.model, 'a checkpoint'))
    with open_socket(args.host, args.port) as opened:
        from vitdet_plugin.api import Inferencer
        from vitdet_plugin.datasets.image_probe import decoder_limits
        from vitdet_plugin.serving.app import create_app
        from vitdet_plugin.utils.stop_signals import stop_signals
        with stop_signals(), decoder_limits():
            inferencer = Inferencer.load(model, args.checkpoint, args.device, args.cfg_options or (), args.half,
                                         args.dtype, args.threads)
            print_precision(inferencer.precision, args.half, args.dtype)
            name = _name(args.model)
            app = create_app(inferencer, settings, name)
            print(f'{name} on {address_of(opened)} (Ctrl-C stops it)', flush=True)
            if not is_local(args.host):
                print('other machines in the network can use it, too, without a password', file=sys.stderr, flush=True)
            make_server(app).run(sockets=[opened])
    return 0


def _settings(args: argparse.Namespace):
    import socket

    from vitdet_plugin.errors import UserError
    from vitdet_plugin.serving.server import is_local
    from vitdet_plugin.serving.settings import Settings
    for option, value in (('--max-mb', args.max_mb), ('--max-mp', args.max_mp)):
        if not 0 < value < 1e6:
            raise UserError(f'{option} {value:g}: give a number above 0')
    for name in args.allow_host:
        if not re.fullmatch(r'[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?', name):
            raise UserError(f'--allow-host {name!r}: give the name of this machine alone, without http:// and port, '
                            'such as gpu1.example.org')
    names = [args.host, *([] if is_local(args.host) else [socket.gethostname()]), *args.allow_host]
    return Settings(args.score_thr, args.tile, args.overlap, int(args.max_mb * 1e6), int(args.max_mp * 1e6), names)


def _name(model: str) -> str:
    """Return the name of a model for people: that of its folder or file."""
    from vitdet_plugin.datasets.own_data.config_text import RUN
    path = Path(model).expanduser().resolve()
    return path.parent.name if path.name == RUN else path.stem if path.is_file() else path.name
