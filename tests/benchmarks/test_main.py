import csv
import json
import sys

import pytest
import torch

from benchmarks import recording
from benchmarks.__main__ import find, format_row, main
from benchmarks.harness import Row, select_rows

MODULE = '''"""A benchmark for the test."""
from benchmarks.harness import Row, Timing


def rows(quick):
    yield Row('quick path' if quick else 'full path', 'naive', 3.0, None, 2.0, None, {difference}, 0.1, 'a note',
              Timing(*[{'wall': 3.0, 'cpu': 2.5}] * 3, {'wall': 0.1, 'cpu': 0.2}, 5))
'''


@pytest.fixture(autouse=True)
def all_rows():
    yield
    select_rows([])


@pytest.fixture
def make_package(tmp_path, monkeypatch):
    def make(difference=0.0):
        folder = tmp_path / 'bench_for_test'
        folder.mkdir()
        (folder / '__init__.py').write_text('')
        (folder / 'speed.py').write_text(MODULE.replace('{difference}', str(difference)))
        (folder / 'helpers.py').write_text('"""No rows here."""\n')
        monkeypatch.syspath_prepend(tmp_path)
        for name in [name for name in sys.modules if name.startswith('bench_for_test')]:
            monkeypatch.delitem(sys.modules, name)
        return __import__('bench_for_test')
    return make


def test_runs_and_prints_a_table(make_package, capsys):
    assert main(['--quick'], make_package()) == 0
    _, before, header, line, after = capsys.readouterr().out.splitlines()
    assert before.startswith('load before: ')
    assert after.startswith('load after: ')
    assert header.split()[0] == 'path'
    assert 'quick path' in line
    assert line.split()[3:7] == ['3.00x', '2.50x', '10', '%']
    assert header.index('reached') == line.index('yes')


def test_json_contains_the_rows_and_the_environment(make_package, tmp_path):
    out = tmp_path / 'rows.json'
    assert main(['speed', '--json', str(out)], make_package()) == 0
    content = json.loads(out.read_text())
    assert content['rows'][0]['path'] == 'full path'
    assert content['rows'][0]['reached'] is True
    assert content['environment']['threads'] >= 1


def test_csv_is_appended_to_with_machine_versions_and_commit(make_package, tmp_path):
    out = tmp_path / 'machine.csv'
    package = make_package()
    for _ in range(2):
        assert main(['--csv', str(out)], package) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row['path'] for row in rows] == ['full path'] * 2
    assert f'torch {torch.__version__}' in rows[0]['packages']
    assert rows[0]['machine'] in str(recording.default_file())
    assert rows[0]['threads'] == str(torch.get_num_threads())


def test_csv_with_other_columns_is_refused_before_running(make_package, tmp_path, capsys):
    out = tmp_path / 'machine.csv'
    out.write_text('a,b\n1,2\n')
    assert main(['--csv', str(out)], make_package()) == 2
    assert 'its columns are not those of this version' in capsys.readouterr().err
    assert out.read_text() == 'a,b\n1,2\n'


def test_different_results_give_exit_status_1(make_package, capsys):
    assert main([], make_package(difference=0.5)) == 1
    assert 'DIFFERS' in capsys.readouterr().out


def test_rows_are_selected_by_a_text_in_their_path(make_package, capsys):
    package = make_package()
    assert main(['--rows', 'other', 'full'], package) == 0
    assert 'full path' in capsys.readouterr().out
    assert main(['--rows', 'slow'], package) == 2
    assert capsys.readouterr().err == 'error: no row has slow in its path; omit --rows to run all\n'


def test_unknown_name_is_an_error_that_lists_the_known_ones(make_package, capsys):
    assert main(['sped'], make_package()) == 2
    assert capsys.readouterr().err == 'error: no benchmark named sped; choose from: speed\n'


def test_missing_json_folder_is_reported_before_running(make_package, tmp_path, capsys):
    assert main(['--json', str(tmp_path / 'none' / 'rows.json')], make_package()) == 2
    assert 'folder does not exist' in capsys.readouterr().err


def test_list_shows_only_modules_with_rows(make_package, capsys):
    assert main(['--list'], make_package()) == 0
    assert capsys.readouterr().out.split() == ['speed', 'A', 'benchmark', 'for', 'the', 'test.']


def test_format_row_shows_missing_values_as_a_dash():
    assert format_row(Row('p', 'r', None, None)).split()[2:8] == ['-'] * 6


def test_real_package_finds_the_data_benchmark():
    assert 'lsj' in find()
