"""``python -m vitdet_plugin.runtime MODEL INPUT… --out FILE``: predict with an exported file, without torch."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .drawing import draw, drawn_paths, write_image
from .errors import ModelError
from .model import load
from .results import Classification
from .writers import FORMATS, Writer


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f'python -m {__package__}',
        description='Predict with a file of "vitdet export". Requires NumPy, ONNX Runtime (or OpenVINO), and OpenCV or '
                    'Pillow.')
    parser.add_argument('model', metavar='MODEL', help='.onnx file, or .xml of OpenVINO')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='images, folders or patterns')
    parser.add_argument('--out', default='results.jsonl', metavar='FILE', help='file to write (default: results.jsonl)')
    parser.add_argument('--format', metavar='FORMAT', help=f'{", ".join(FORMATS)} (default: csv for a file .csv, coco '
                        'for a file .json, otherwise jsonl)')
    parser.add_argument('--draw', action='store_true', help='write drawn images to the folder of --out, as NAME.jpg '
                        'in a folder with the name of the file')
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='S', help='lowest score (default: 0.3)')
    parser.add_argument('--batch', type=int, default=1, metavar='N', help='images that are predicted at once, if the '
                        'file has a dynamic batch dimension (default: 1)')
    parser.add_argument('--threads', type=int, metavar='N', help='threads of the processor')
    parser.add_argument('--provider', action='append', metavar='NAME', help='execution provider of ONNX Runtime, or '
                        'device of OpenVINO')
    parser.add_argument('--half', action='store_true', help='let OpenVINO compute in 16 bits')
    parser.add_argument('--top', type=int, default=5, metavar='N', help='classes per image (default: 5)')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    try:
        return _predict(args)
    except ModelError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('stopped; the results so far are kept', file=sys.stderr)
        return 130


def _predict(args: argparse.Namespace) -> int:
    out = Path(args.out)
    kind = args.format or {'.csv': 'csv', '.json': 'coco'}.get(out.suffix.lower(), 'jsonl')
    if kind not in FORMATS:
        raise ModelError(f'--format {kind}: choose from {", ".join(FORMATS)}')
    if not 0 <= args.score_thr <= 1:
        raise ModelError(f'--score-thr {args.score_thr:g}: give a number from 0 to 1')
    if out.is_dir():
        raise ModelError(f'--out {out} is a folder; give a file, such as {out / "results.jsonl"}')
    model = load(args.model, threads=args.threads, providers=args.provider, half=args.half)
    faults: list[str] = []
    count, start, path_of = 0, time.perf_counter(), drawn_paths(out.with_suffix(''))
    results = model.stream(args.inputs, args.batch, args.score_thr, keep_images=args.draw, on_fault=faults.append)
    writer = None
    try:
        for result in results:
            # created with the first result, so that a wrong input leaves an earlier file as it is
            writer = writer or Writer(out, kind, model.classes, model.is_classifier, args.top)
            writer.add(result)
            if args.draw and result.image is not None:
                write_image(path_of(result.path), draw(result.image, result))
            count += 1
            found = f'{result.name} {result.score:.2f}' if isinstance(result, Classification) else \
                f'{len(result)} objects'
            print(f'{result.path}: {found}', flush=True)
    finally:
        if writer is not None:
            writer.close()
    if len(faults) == 1 and not count:
        raise ModelError(faults[0])
    for fault in faults:
        print(f'left out: {fault}', file=sys.stderr)
    if not count:
        raise ModelError(f'none of the {len(faults)} images can be read')
    rate = count / max(time.perf_counter() - start, 1e-9)
    print(f'{count} images, {rate:.1f} images/s, results in {out}' + (f', images in {out.with_suffix("")}'
                                                                     if args.draw else ''))
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main())
