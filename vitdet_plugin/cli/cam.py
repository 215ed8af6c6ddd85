"""``vitdet cam RUN_DIR IMAGE… --out DIR``: draw class activation maps."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.cli.arguments import add_config_options, parse
from vitdet_plugin.cli.checks import check_at_least
from vitdet_plugin.cli.model_words import split_model
from vitdet_plugin.cli.process import run
from vitdet_plugin.utils.text import counted


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description='Draw heat maps over images (Grad-CAM and related methods, attention of queries): '
                               'of the predicted class of a classifier, of each detected box of a detector.')
    parser.add_argument('model', metavar='RUN_DIR', help='folder of vitdet init or of a training run; or a config, '
                                                         'with a checkpoint after it')
    parser.add_argument('inputs', nargs='+', metavar='IMAGE', help='images, folders of images, patterns and videos')
    parser.add_argument('--out', '--out-dir', required=True, metavar='DIR', help='folder for the drawn images')
    parser.add_argument('--classes', nargs='+', metavar='NAME',
                        help='classifiers: explain these classes (names or numbers) instead of the predicted one')
    parser.add_argument('--method', help='hirescam, gradcam, gradcam++, layercam, xgradcam, eigengradcam, attention '
                                         '(default: attention of the decoder for detectors with queries, '
                                         'otherwise HiResCAM of the difference from the mean over locations)')
    parser.add_argument('--most', type=int, default=5, metavar='N', help='detectors: boxes per image (default: 5)')
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='S',
                        help='detectors: lowest score (default: 0.3)')
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    args = parse(build_parser(prog), argv, is_intermixed=True)
    return run(args, cam_command, split_model)


def cam_command(args: argparse.Namespace) -> int:
    from vitdet_plugin.engine.image_sources import find_images, out_paths
    from vitdet_plugin.engine.load_model import load_model
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.prediction.run_folder import find_run, is_exported
    from vitdet_plugin.utils.paths import check_inputs_are_kept, check_output_path
    from vitdet_plugin.utils.text import escape
    from vitdet_plugin.utils.track import track
    from vitdet_plugin.visualization.cam import CamExplainer, check_method
    from vitdet_plugin.visualization.draw import write_figure
    from vitdet_plugin.visualization.heat import draw_heat_maps
    check_output_path('--out', args.out, is_folder=True)
    check_method(args.method)
    check_at_least(args, most=1)
    if args.config is None and is_exported(args.model):
        raise UserError(f'{args.model} is an exported file, which has no gradients; give the folder of the training '
                        'run')
    if args.config is None:
        args.config, args.checkpoint = map(str, find_run(args.model))
    sources = find_images(args.inputs)
    targets = out_paths(sources, Path(args.out))
    check_inputs_are_kept('--out', targets, [source.path for source in sources if isinstance(source.path, Path)])
    loaded = load_model(args.config, args.checkpoint, args.device, args.cfg_options)
    labels = [_label(name, loaded.classes or []) for name in args.classes or ()] or [None]
    explainer, out = CamExplainer(loaded, args.method), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    faults = []
    for source, target in track(zip(sources, targets), len(sources), 'images'):
        try:
            image, heat_maps = explainer(source.content(), labels, args.most, args.score_thr)
        except UserError as error:
            if len(sources) == 1:
                raise
            faults.append(source.name)
            print(f'left out: {escape(str(error))}', file=sys.stderr, flush=True)
            continue
        title = source.name if source.path is None else f'{source.path.parent.name}/{source.path.name}'
        drawn = draw_heat_maps(image, heat_maps, loaded.classes, title)
        write_figure(target, drawn)
    print(f'{counted(len(sources) - len(faults), "image")} in {out}')
    return 1 if faults else 0


def _label(name: str, classes: Sequence[str]) -> int:
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.text import suggest
    if name in classes:
        return list(classes).index(name)
    if name.isdigit() and (not classes or int(name) < len(classes)):
        return int(name)
    raise UserError(f'--classes {name}: no such class{suggest(name, classes)}; there are {", ".join(classes)}')
