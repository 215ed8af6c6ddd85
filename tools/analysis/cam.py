#!/usr/bin/env python
"""What a model looks at: ``tools/analysis/cam.py CONFIG CHECKPOINT PICTURE… --out DIR``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _cli import add_config_options, add_model_arguments, parse, run, use_checkout


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='Class activation maps (Grad-CAM and its kin) over pictures: of the predicted class of a '
                    'classifier, of each detected box of a detector.')
    add_model_arguments(parser)
    parser.add_argument('inputs', nargs='+', metavar='PICTURE', help='pictures and folders of pictures')
    parser.add_argument('--out', '--out-dir', required=True, metavar='DIR', help='folder for the drawn pictures')
    parser.add_argument('--classes', nargs='+', metavar='NAME',
                        help='classifiers: explain these classes (names or numbers) instead of the predicted one')
    parser.add_argument('--method', default='centered',
                        help='centered (default: HiResCAM of activations minus their spatial mean), hirescam, gradcam, '
                             'gradcam++, layercam, xgradcam, eigengradcam')
    parser.add_argument('--most', type=int, default=5, metavar='N', help='detectors: boxes a picture (default: 5)')
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='S',
                        help='detectors: lowest score (default: 0.3)')
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(build_parser(), argv)
    use_checkout()

    def action() -> None:
        import cv2

        from vitdet_plugin.engine.inference import expand, out_paths
        from vitdet_plugin.engine.load_model import load_model
        from vitdet_plugin.utils.paths import check_output_path
        from vitdet_plugin.utils.track import track
        from vitdet_plugin.visualization.cam import CamExplainer
        from vitdet_plugin.visualization.heat import draw_heat_maps
        check_output_path('--out', args.out, is_folder=True)
        paths = list(expand(args.inputs))
        loaded = load_model(args.config, args.checkpoint, args.device, args.cfg_options)
        labels = [_label(name, loaded.classes or []) for name in args.classes or ()] or [None]
        explainer, out = CamExplainer(loaded, args.method), Path(args.out)
        out.mkdir(parents=True, exist_ok=True)
        places = out_paths(paths, out)
        for path, place in zip(paths, track(places, len(places), 'pictures')):
            image, heat_maps = explainer(path, labels, args.most, args.score_thr)
            drawn = draw_heat_maps(image, heat_maps, loaded.classes, f'{path.parent.name}/{path.name}')
            cv2.imwrite(str(place), drawn[..., ::-1])
        print(f'{len(paths)} pictures in {out}')

    return run(action)


def _label(name: str, classes: Sequence[str]) -> int:
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.text import suggest
    if name in classes:
        return list(classes).index(name)
    if name.isdigit() and (not classes or int(name) < len(classes)):
        return int(name)
    raise UserError(f'--classes {name}: no such class{suggest(name, classes)}; there are {", ".join(classes)}')


if __name__ == '__main__':
    sys.exit(main())
