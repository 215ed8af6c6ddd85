"""The tutorials: every command of a page runs in the order of the page, in an empty folder.

By default with fewer images and steps, by options that are added to the commands of the page. With VITDET_SOAK (make
soak) exactly as written, and the result is compared with a least value.
"""

import json
import os
import re
import shlex
from pathlib import Path

import pytest

from tests.test_documents import ROOT
from vitdet_plugin.cli.main import main

PAGES = ROOT / 'docs' / 'tutorials'
IS_COMPLETE = 'VITDET_SOAK' in os.environ
# page -> its folder of results, options that shorten "vitdet init", and the least value in report.json with VITDET_SOAK
CASES = {
    'boxes': ('runs/boxes', '--iters 2 --batch 2 --image-size 64', ('ap50', 0.1)),
    'masks': ('runs/masks', '--iters 2 --batch 2 --image-size 64', ('ap50', 0.1)),
    'classes': ('runs/digits', '--epochs 1', ('top1', 0.6)),
}


def steps(page: str) -> list[tuple[str, str]]:
    """The blocks of a page in their order: ('bash', commands) and ('python', code)."""
    return re.findall(r'```(bash|python)\n(.*?)```', (PAGES / f'{page}.md').read_text(), re.DOTALL)


def shortened(line: str, options: str) -> str:
    if IS_COMPLETE:
        return line
    if line.startswith('vitdet init'):
        given = {word for word in options.split() if word.startswith('--')}
        kept = re.sub('|'.join(rf' {each} \S+' for each in given), '', line)
        return f'{kept} {options}'
    return re.sub(r'--train \d+ --val \d+', '--train 6 --val 2', line)


@pytest.mark.parametrize('page', CASES)
def test_a_tutorial(page, tmp_path, monkeypatch):
    folder, options, (key, least) = CASES[page]
    monkeypatch.setenv('VITDET_CACHE', str(tmp_path / 'cache'))
    monkeypatch.chdir(tmp_path)
    lines = []
    for language, text in steps(page):
        if language == 'python':
            pytest.importorskip('sklearn')
            exec(compile(text if IS_COMPLETE else re.sub(r':900\]', ':80]', text), page, 'exec'), {})
            continue
        for line in text.splitlines():
            words = shlex.split(shortened(line, options))
            assert words[0] == 'vitdet' and main(words[1:]) == 0, line
            lines.append(line)
    assert [line.split()[1] for line in lines if 'make-set' not in line][:3] == ['init', 'train', 'predict']
    out = tmp_path / folder
    report = json.loads((out / 'report' / 'report.json').read_text())
    assert {'config.py', 'annotations', 'run', 'report'} <= {path.name for path in out.iterdir()}
    if IS_COMPLETE:
        assert report[key] >= least


@pytest.mark.parametrize('page', CASES)
def test_a_page_shows_the_commands_and_is_linked(page):
    """Its images exist and are small."""
    assert f'tutorials/{page}.md' in (ROOT / 'docs' / 'own-data.md').read_text()
    text = (PAGES / f'{page}.md').read_text()
    assert all(f'vitdet {name} ' in text for name in ('init', 'train', 'predict', 'report'))
    images = re.findall(r'!\[[^]]*\]\(([^)]+)\)', text)
    assert all((PAGES / name).is_file() and (PAGES / name).stat().st_size < 200_000 for name in images)


def test_every_tutorial_is_tested():
    assert {path.stem for path in Path(PAGES).glob('*.md')} == set(CASES)
