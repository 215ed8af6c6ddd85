"""Values of wrong types in JSON files become problems, or the file is not recognized; nothing raises."""

import copy

import pytest

from tests.datasets.formats.reading import write
from tests.datasets.formats.samples import SAMPLES, write_sample
from vitdet_plugin.datasets.formats import known_formats
from vitdet_plugin.datasets.formats.tree import FileTree

WRONG = (None, [], {}, 'x', -1, 1e308, True, [None], '')


def positions(content, path=()):
    yield path
    for key, value in content.items() if isinstance(content, dict) else \
            enumerate(content) if isinstance(content, list) else ():
        yield from positions(value, (*path, key))


def replaced(content, path, value):
    content = copy.deepcopy(content)
    inside = content
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return content


@pytest.mark.parametrize('name', [name for name, (_, _, files) in SAMPLES.items()
                                  if any(not isinstance(content, str) for content in files.values())])
def test_wrong_values(tmp_path, name):
    expected, images, files = SAMPLES[name]
    write_sample(tmp_path, images, files)
    file, content = next((file, content) for file, content in files.items() if not file.endswith('meta.json'))
    form = next(each for each in known_formats() if each.name == expected)
    for index, path in enumerate([*positions(content)][1:]):
        # all values at each position would take long
        for value in WRONG[index % 3::3]:
            write(tmp_path / file, replaced(content, path, value))
            tree = FileTree(tmp_path)
            form.recognize(tree)
            found = form.read(tree)
            assert found.problems or found.images or found.notes
