"""``vitdet convert voc-to-coco …``: convert annotations between COCO, Pascal VOC and YOLO."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.cli.common import parse, run

CONVERSIONS = ('voc-to-coco', 'yolo-to-coco', 'coco-to-yolo', 'coco-to-voc')
DESCRIPTION = """Convert annotations: Pascal VOC or YOLO to COCO, and back.

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
    for each in (voc, yolo):
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
    from vitdet_plugin.datasets.conversion import read_classes, read_coco, write_new
    from vitdet_plugin.datasets.from_coco import WRITERS, read_objects
    from vitdet_plugin.datasets.from_voc import convert_voc, split_by_imageset
    from vitdet_plugin.datasets.from_yolo import convert_yolo, convert_yolo_set
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.paths import check_output_path
    files, problems, notes = {}, [], []
    if args.out:
        check_output_path('--out', args.out, is_folder=True)
    if args.command.startswith('coco'):
        if args.images and not args.images.is_dir():
            raise UserError(f'--images: {args.images} is not a folder')
        remarks: list[str] = []
        images, classes, problems = read_objects(read_coco(args.json), args.json, args.clip, args.images, remarks)
        files = WRITERS[args.command.rpartition('-')[2]](images, classes, args.out, args.split)
        notes.append(f'{len(images)} images, {sum(len(objects) for _, objects in images)} objects')
        notes += remarks
    else:
        out = args.out or (args.root.parent if args.root.is_file() else args.root) / 'annotations'
        classes = read_classes(args.classes) if args.classes else None
        if args.command == 'voc-to-coco':
            content = convert_voc(args.root / args.annotations, args.root / args.images, classes,
                                  one_based=args.one_based, clip=args.clip)
            contents = {name: (content, split_by_imageset(content, args.root / args.imagesets / f'{name}.txt'))
                        for name in args.splits or ()} or {'all': (content, content.images)}
        elif classes is None:
            if (args.images, args.labels) != ('images', 'labels'):
                raise UserError('--images and --labels need --classes; without it, the folders are those of data.yaml')
            content, parts = convert_yolo_set(args.root, args.clip)
            if unknown := [name for name in args.splits or () if name not in parts]:
                raise UserError(f'--splits: {args.root} has no images of {unknown[0]}, only of {", ".join(parts)}')
            contents = {name: (content, parts[name]) for name in args.splits or parts}
        else:
            contents = {}
            for name in args.splits or ['']:
                content = convert_yolo(args.root / args.images / name, args.root / args.labels / name, classes,
                                       clip=args.clip)
                contents[name or 'all'] = content, content.images
        if args.command == 'voc-to-coco' and args.splits:
            unlisted = len(content.images) - len({image['id'] for _, images in contents.values() for image in images})
            notes += [f'{unlisted} annotated images are in none of the lists and left out'] if unlisted else []
        for name, (content, images) in contents.items():
            coco = content.coco(images)
            files[out / f'{name}.json'] = json.dumps(coco)
            notes.append(f'{name}: {len(images)} images, {len(coco["annotations"])} objects of '
                         f'{len(content.classes)} classes ({", ".join(content.classes[:8])}'
                         f'{", ..." if len(content.classes) > 8 else ""})')
        for content in {id(content): content for content, _ in contents.values()}.values():
            problems += content.problems
            notes += content.notes
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems and not args.skip_bad:
        print(f'error: {len(problems)} problems, nothing written; fix them, or leave them out with --skip-bad',
              file=sys.stderr)
        return 1
    write_new(files)
    notes.append(f'{len(problems)} rows or files left out' if problems else 'nothing left out')
    print('\n'.join([*notes, f'written: {len(files)} files, {next(iter(files))}{" ..." if len(files) > 1 else ""}']))
    return 0

