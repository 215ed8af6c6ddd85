"""``vitdet weights list|get|verify``: published weights by name."""

import argparse
from collections.abc import Sequence

from vitdet_plugin.cli.arguments import parse
from vitdet_plugin.cli.process import run

DESCRIPTION = """List, download and verify published weights.

  vitdet weights list [WORD ...]    the names that contain these words
  vitdet weights get NAME ...       download; prints the path of each file; a URL is downloaded, too
  vitdet weights verify [NAME ...]  check the downloaded files (by default all)

A NAME can be given wherever a checkpoint is: in init_cfg, load_from, --weights and as CHECKPOINT. timm:MODEL gives the
weights that timm has for one of its models. VITDET_CACHE is the folder of the files, VITDET_WEIGHTS a URL or folder
that holds them under their file names."""


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('action', choices=('list', 'get', 'verify'), help='what to do with the names')
    parser.add_argument('names', nargs='*', metavar='NAME', help='a name of the list, timm:MODEL, or (get) a URL')
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), weights_command)


def table_names() -> list[str]:
    """Return all names of published weights."""
    from vitdet_plugin.checkpoints.published import TABLE
    return list(TABLE)


def weights_command(args: argparse.Namespace) -> int:
    if args.action == 'list':
        return _list(args.names)
    return _get(args.names) if args.action == 'get' else _verify(args.names)


def _list(words: Sequence[str]) -> int:
    from vitdet_plugin.checkpoints.fetching import cache_folder, find_cached
    from vitdet_plugin.checkpoints.published import TABLE, PublishedWeights, find_published
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.text import format_bytes
    entries: list[PublishedWeights] = []
    for entry in TABLE.values():
        if all(word.lower() in f'{entry.name} {entry.fits} {entry.license}'.lower() for word in words
               if not word.startswith('timm:')):
            entries.append(entry)
    if named := [found for word in words if word.startswith('timm:') and (found := find_published(word))]:
        entries = named
    if not entries:
        raise UserError(f'no published weights match {" ".join(words)}; "vitdet weights list" lists all')
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        state = 'downloaded' if find_cached(entry) else 'by agreement' if entry.gated else \
            'unconfirmed URL' if entry.unconfirmed else ''
        size = format_bytes(entry.size) if entry.size else ''
        print(f'{entry.name:<{width}}  {size:>9}  {entry.license:<17}  {state:<15}  {entry.fits}')
        if len(entries) == 1 or named:
            print(f'  {entry.url}\n  file {entry.file_name}, {entry.digest or "no published checksum"}\n'
                  f'  {_describe_statistics(entry.statistics)}\n  {entry.source}')
    print(f'{len(entries)} of {len(TABLE)} names; files are kept in {cache_folder()}')
    return 0


def _describe_statistics(statistics: tuple[tuple[float, ...], ...]) -> str:
    return f'input: RGB, mean {", ".join(map(str, statistics[0]))}, std {", ".join(map(str, statistics[1]))}'


def _get(names: Sequence[str]) -> int:
    from vitdet_plugin.checkpoints.fetching import fetch
    from vitdet_plugin.compat.remote_files import download
    from vitdet_plugin.errors import UserError
    if not names:
        raise UserError('vitdet weights get: give a name; "vitdet weights list" lists them')
    # unknown names are refused before any download
    for found in [name if name.startswith(('http://', 'https://')) else _find(name) for name in names]:
        print(download(found) if isinstance(found, str) else fetch(found), flush=True)
    return 0


def _verify(names: Sequence[str]) -> int:
    from vitdet_plugin.checkpoints.fetching import cache_folder, find_cached, verify
    from vitdet_plugin.checkpoints.published import TABLE
    entries = [_find(name) for name in names] or [
        entry for entry in TABLE.values() if find_cached(entry) or (cache_folder() / entry.file_name).is_file()]
    wrong = 0
    for entry in entries:
        is_correct, line = verify(entry)
        wrong += not is_correct
        print(f'{"ok" if is_correct else "error"}: {entry.name}: {line}', flush=True)
    if not entries:
        print(f'no published weights in {cache_folder()}')
    return 1 if wrong else 0


def _find(name: str):
    from vitdet_plugin.checkpoints.published import ALIASES, TABLE, find_published
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.text import suggest
    entry = TABLE.get(ALIASES.get(name, name)) or find_published(name)
    if entry is None:
        raise UserError(f'{name}: no published weights have this name{suggest(name, TABLE)}; '
                        '"vitdet weights list" lists them')
    return entry
