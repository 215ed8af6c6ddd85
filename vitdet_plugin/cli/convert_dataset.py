"""``vitdet convert to-coco …``: convert annotations of all known formats to COCO, and COCO to Pascal VOC and YOLO."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitdet_plugin.cli.arguments import parse
from vitdet_plugin.cli.process import run
from vitdet_plugin.utils.text import counted

CONVERSIONS = ('to-coco', 'voc-to-coco', 'yolo-to-coco', 'coco-to-yolo', 'coco-to-voc')
DESCRIPTION = """Convert annotations: all formats of "vitdet init" to COCO, and COCO to Pascal VOC and YOLO.

to-coco data/cells
to-coco data/cells/via_project.json --out cells_coco
voc-to-coco data/cells --annotations xml --imagesets sets --splits train val
yolo-to-coco data/cells/data.yaml
yolo-to-coco data/cells --classes data/cells/data.yaml --splits train val
coco-to-yolo annotations/train.json --out labels_of_cells --split train
coco-to-voc annotations/train.json --out xml_of_cells --split train

Every row that cannot be converted is listed with file and line. Nothing is written then (status 1) unless --skip-bad
leaves these rows out. No existing file is overwritten."""


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('--skip-bad', action='store_true', help='leave out what cannot be converted (it is still '
                                                                'listed and counted)')
    common.add_argument('--clip', action='store_true', help='clip boxes to the image')
    every = commands.add_parser('to-coco', parents=[common], help='any format of "vitdet init" to COCO, with the class '
                                                                 'names and splits that the data set states')
    every.add_argument('root', type=Path, help='folder of the data set, its annotation file, or its archive')
    every.add_argument('--format', metavar='NAME', help='format of the data set, if several fit')
    every.add_argument('--splits', nargs='+', metavar='NAME', help='write these only: train, val, test, other (images '
                                                                   'in no split), all (no splits)')
    voc = commands.add_parser('voc-to-coco', parents=[common], help='XML files to COCO')
    voc.add_argument('root', type=Path, help='folder of the data set')
    voc.add_argument('--annotations', default='Annotations', metavar='DIR', help='below root (default: %(default)s)')
    voc.add_argument('--images', default='JPEGImages', metavar='DIR', help='below root (default: %(default)s)')
    voc.add_argument('--imagesets', default='ImageSets/Main', metavar='DIR', help='below root (default: %(default)s)')
    voc.add_argument('--splits', nargs='+', metavar='NAME', help='lists in the folder of imagesets, one json each '
                                                                 '(default: all XML files in one, all.json)')
    voc.add_argument('--one-based', action='store_true', help='coordinates count from 1, as in the VOC challenges')
    voc.add_argument('--classes', help='class names in order: a,b,c or a file (default: those that occur, sorted)')
    yolo = commands.add_parser('yolo-to-coco', parents=[common], help='text files to COCO')
    yolo.add_argument('root', type=Path, help='folder of the data set, or its data.yaml; class names, folders and '
                                              'splits are those of data.yaml if --classes is not given')
    yolo.add_argument('--images', default='images', metavar='DIR', help='below root (default: %(default)s)')
    yolo.add_argument('--labels', default='labels', metavar='DIR', help='below root (default: %(default)s)')
    yolo.add_argument('--splits', nargs='+', metavar='NAME', help='folders below both, one json each (default: all '
                                                                  'images in one, all.json)')
    yolo.add_argument('--classes', help='class names in order: a,b,c, classes.txt or data.yaml; the folders are then '
                                        'those of --images and --labels')
    for each in (every, voc, yolo):
        each.add_argument('--out', type=Path, metavar='DIR', help='folder for the json files (default: '
                                                                  'root/annotations)')
    for target in ('yolo', 'voc'):
        back = commands.add_parser(f'coco-to-{target}', parents=[common], help=f'boxes of a COCO file to {target}')
        back.add_argument('json', type=Path, help='COCO file')
        back.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder to write to')
        back.add_argument('--images', type=Path, metavar='DIR', help='folder of the images, to read and compare their '
                                                                     'sizes (default: if found next to the json)')
        back.add_argument('--split', default='train', metavar='NAME', help='name of the split (default: %(default)s)')
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), convert_dataset_command)


def convert_dataset_command(args: argparse.Namespace) -> int:
    from vitdet_plugin.datasets.archives import unpacked
    from vitdet_plugin.datasets.conversion import write_new
    from vitdet_plugin.utils.paths import check_output_path
    if args.out:
        check_output_path('--out', args.out, is_folder=True)
    if args.command.startswith('coco'):
        files, problems, notes = _from_coco(args)
    else:
        with unpacked(args.root) as args.root:
            files, problems, notes = _to_coco(args)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems and not args.skip_bad:
        print(f'error: {counted(len(problems), "problem")}, nothing written; fix them, or leave them out with '
              '--skip-bad', file=sys.stderr)
        return 1
    write_new(files)
    notes.append(f'{len(problems)} rows or files left out' if problems else 'nothing left out')
    print('\n'.join([*notes, f'written: {counted(len(files), "file")}, {next(iter(files))}'
                     + ' ...' * (len(files) > 1)]))
    return 0


def _from_coco(args: argparse.Namespace) -> tuple[dict[Path, str], list[Any], list[str]]:
    """Return the texts to write by path, problems, and notes."""
    from vitdet_plugin.datasets.conversion import read_coco
    from vitdet_plugin.datasets.from_coco import WRITERS, read_objects
    from vitdet_plugin.errors import UserError
    if args.images and not args.images.is_dir():
        raise UserError(f'--images: {args.images} is not a folder')
    remarks: list[str] = []
    images, classes, problems = read_objects(read_coco(args.json), args.json, args.clip, args.images, remarks)
    files = WRITERS[args.command.rpartition('-')[2]](images, classes, args.out, args.split)
    objects = sum(len(found) for _, found in images)
    return files, problems, [f'{counted(len(images), "image")}, {counted(objects, "object")}', *remarks]


def _to_coco(args: argparse.Namespace) -> tuple[dict[Path, str], list[Any], list[str]]:
    """Return the texts to write by path, problems, and notes."""
    from vitdet_plugin.datasets.to_coco import coco_content, relative_name
    out = args.out or (args.root.parent if args.root.is_file() else args.root) / 'annotations'
    notes, splits = _read(args)
    files = {}
    sets = {id(read): read for read, _ in splits.values()}.values()
    if not args.clip:
        for read in sets:
            read.found.leave_out_cut('--clip cuts it')
    for name, (read, images) in splits.items():
        classes = read.found.classes
        content = coco_content(images, classes, lambda image, folder=read.folder: relative_name(image, folder),
                               frequencies=read.found.frequencies)
        files[out / f'{name}.json'] = json.dumps(content)
        notes.append(f'{name}: {counted(len(images), "image")}, {counted(len(content["annotations"]), "object")} of '
                     f'{counted(len(classes), "class")} ({", ".join(classes[:8])}{", ..." * (len(classes) > 8)})')
    problems = [problem for read in sets for problem in read.found.problems]
    return files, problems, notes + [note for read in sets for note in read.found.notes]


def _read(args: argparse.Namespace) -> tuple[list[str], dict[str, tuple[Any, list]]]:
    """Return notes, and for each file to write the data set and its images."""
    from vitdet_plugin.datasets.conversion import read_classes
    from vitdet_plugin.datasets.to_coco import read_any, read_voc_folders, read_yolo_folders, select_listed
    from vitdet_plugin.errors import UserError
    classes = read_classes(args.classes) if getattr(args, 'classes', None) else None
    if args.command == 'voc-to-coco':
        read = read_voc_folders(args.root / args.annotations, args.root / args.images, classes, args.one_based)
        lists = {name: (read, select_listed(read, args.root / args.imagesets / f'{name}.txt'))
                 for name in args.splits or ()}
        unlisted = len(read.found.images) - len({id(image) for _, images in lists.values() for image in images})
        is_noted = bool(lists and unlisted)
        return ([f'{unlisted} annotated images are in none of the lists and left out'] * is_noted,
                lists or {'all': (read, read.found.images)})
    if args.command == 'yolo-to-coco' and classes is not None:
        parts = {name: read_yolo_folders(args.root / args.images / name, args.root / args.labels / name, classes)
                 for name in args.splits or ['']}
        return [], {name or 'all': (part, part.found.images) for name, part in parts.items()}
    if args.command == 'yolo-to-coco' and (args.images, args.labels) != ('images', 'labels'):
        raise UserError('--images and --labels need --classes; without it, the folders are those of data.yaml')
    read = read_any(args.root, 'yolo' if args.command == 'yolo-to-coco' else args.format)
    if unknown := [name for name in args.splits or () if name not in read.splits]:
        raise UserError(f'--splits: {args.root} has no images of {unknown[0]}, only of {", ".join(read.splits)}')
    return [], {name: (read, read.splits[name]) for name in args.splits or read.splits}
