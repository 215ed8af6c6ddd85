"""Facts that documents state more than once, or that the code states as well: they have to be equal."""

import re
from pathlib import Path

import pytest

from benchmarks.__main__ import find
from benchmarks.page import PAGE, benchmarks_of, read, tables
from tests.test_commands import COMMAND_LINES, MODULES, TOOLS, tool_of
from tests.test_documents import PAGES, ROOT
from tests.test_import_direction import ORDER
from vitdet_plugin.cli import convert_dataset, make_demo_set, old_options

# options of other programs, of other codebases, and of pytest
FOREIGN_OPTIONS = {'--nproc-per-node', '--nnodes', '--node-rank', '--master-addr', '--master-port', '--max-restarts',
                   '--no-deps', '--no-build-isolation', '--exclusive', '--time', '--signal', '--logdir', '--eval-only'}
OPTION = re.compile(r'(?<![\w-])--[a-z][\w-]*')
RESULTS = sorted((ROOT / 'benchmarks' / 'results').glob('*.csv'))


def slug(title: str) -> str:
    """The anchor of a heading as the site and GitHub make it."""
    text = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', title).replace('`', '').strip().lower()
    return re.sub(r'\s', '-', re.sub(r'[^\w\s-]', '', text))


def without_code(text: str) -> str:
    return re.sub(r'```.*?```', '', text, flags=re.DOTALL)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_anchors_exist(page):
    missing = []
    for target, anchor in re.findall(r'\]\(([^)#\s]*)#([^)\s]+)\)', page.read_text()):
        file = (page.parent / target) if target else page
        if '://' not in target and file.suffix == '.md':
            titles = re.findall(r'^#+ (.+)$', without_code(file.read_text()), re.MULTILINE)
            missing += [f'{target}#{anchor}'] * (anchor not in map(slug, titles))
    assert not missing


def known_options() -> set[str]:
    """Options of every command and script of this project."""
    found = {'--help', '--version', *FOREIGN_OPTIONS}
    for name in (*COMMAND_LINES, *MODULES, *TOOLS):
        parser = tool_of(name).build_parser()
        subparsers = [each for action in parser._actions if isinstance(action.choices, dict)
                      for each in action.choices.values()]
        for each in (parser, *subparsers):
            found |= {option.replace('_', '-') for action in each._actions for option in action.option_strings}
    return found


def test_options_in_sentences_exist():
    """Also in parts of a command line, which test_commands.py does not read."""
    of_others = Path(old_options.__file__).read_text() + Path(convert_dataset.__file__).read_text()
    known = known_options() | set(OPTION.findall(of_others.replace('_', '-')))
    unknown = {}
    for page in PAGES:
        spans = re.findall(r'`([^`\n]+)`', without_code(page.read_text())) if page.name != 'CHANGELOG.md' else []
        options = {each.replace('_', '-') for span in spans for each in OPTION.findall(span)} - known
        if options:
            unknown[str(page.relative_to(ROOT))] = options
    assert unknown == {}


def test_contributing_has_the_import_order_and_every_subpackage():
    text = (ROOT / 'CONTRIBUTING.md').read_text()
    order = [name for name in ORDER if name != '__main__']
    stated = re.search(rf'^{order[0]}, {order[1]}[\w, \n]+?(?=\n\n)', text, re.MULTILINE)
    assert re.split(r',\s+', stated[0]) == order
    table = text[:stated.start()]
    folders = [path.name for path in (ROOT / 'vitdet_plugin').iterdir() if (path / '__init__.py').is_file()]
    assert [name for name in folders if not re.search(rf'[`/]{name}`', table) and name not in ('configs',)] == []


def test_the_demo_has_the_same_results_and_size_everywhere():
    names = ('README.md', 'docs/first-result.md', 'docs/models.md', 'data/README.md', 'Makefile',
             'vitdet_plugin/cli/demo.py')
    text = {name: (ROOT / name).read_text() for name in names}
    minutes = {name: re.findall(r'about (\d+) minutes', text[name])
               for name in ('README.md', 'docs/first-result.md', 'Makefile', 'vitdet_plugin/cli/demo.py')}
    assert all(minutes.values()) and len({value for found in minutes.values() for value in found}) == 1
    box, mask = re.search(r'demo: box AP50=([\d.]+) mask AP50=([\d.]+)', text['docs/first-result.md']).groups()
    assert re.search(r'\[vitdet_demo\].*\| ([\d.]+) \| ([\d.]+) \|', text['docs/models.md']).groups() == (box, mask)
    assert box == mask and f'(box and mask AP50 {box})' in text['README.md']
    args = make_demo_set.build_parser().parse_args([])
    assert f'{args.train + args.val:,} small images' in text['docs/first-result.md']
    assert f'{args.train:,} for training' in text['docs/first-result.md']
    assert f'{args.train - 1:06}.jpg' in text['data/README.md'] and f'{args.val - 1:06}.jpg' in text['data/README.md']


def test_no_page_denies_that_a_gpu_was_used():
    """docs/gpu.md has measurements."""
    assert '## Measured on an H100' in (ROOT / 'docs/gpu.md').read_text()
    denied = (r'(?:[Nn]othing|[Nn]ever|not)(?: \w+){0,6} (?:run|measured|tested|tried)(?: \w+){0,3} on '
              r'(?:a GPU|one yet|GPUs)')
    found = {str(page.relative_to(ROOT)): re.findall(denied, page.read_text()) for page in PAGES}
    assert {name: texts for name, texts in found.items() if texts} == {}


def test_the_page_of_benchmarks_shows_every_benchmark():
    assert sorted(benchmarks_of(PAGE.read_text())) == sorted(find())


@pytest.mark.parametrize('file', RESULTS, ids=lambda file: file.name)
def test_the_page_of_benchmarks_has_the_rows_of_the_results(file):
    """``python -m benchmarks.page`` writes them."""
    text, rows = PAGE.read_text(), read(file)
    if {row['machine'] for row in rows} != {'amd-epyc-2-cores'}:
        pytest.skip('results of another machine than the page shows')
    assert tables(text, rows) == text
    for row in rows:
        assert row['commit'].rstrip('+')[:7] in text and f"torch {row['packages'].split()[1].split('+')[0]}" in text


def test_tables_are_replaced_between_their_markers():
    row = dict(benchmark='speed', path='a path', reference='naive', clock='wall', wall_ours='0.0123',
               wall_reference='1.5', cpu_ours='2', cpu_reference='5', wall_ratio='3.0', cpu_ratio='2.5', noisy='True',
               memory_ratio='0.5', time_goal='4', memory_goal='', reached='False', note='', difference='0.1',
               tolerance='0.1')
    text = 'a\n<!-- table: speed -->\nold\n<!-- end of table -->\nb\n'
    page = tables(text, [row, dict(row, benchmark='other')])
    assert page.splitlines()[4] == ('| a path | naive | 12.3 ms / 1.5 s | 3.00x, noisy | 2.50x | 2.0x | '
                                    '4x: **not reached** |')
    assert 'old' not in page and page.startswith('a\n') and page.endswith('b\n') and page.count('a path') == 1
    assert tables(page, [row]) == page
    assert '**results differ**' in tables(text, [dict(row, tolerance='0')])
    assert 'Not measured in this run.' in tables(text, [])
    on_a_busy_machine = tables(text, [dict(row, clock='cpu')])
    assert '| a path | naive | 2 s / 5 s |  | 2.50x, noisy |' in on_a_busy_machine
