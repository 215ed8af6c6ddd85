"""``tools/check_goldens.py``: one line per case, and the exit status."""

import sys

import pytest
from safetensors.torch import load_file, save_file

from tests.end_to_end.tiny_set import load_tool
from tests.parity.cases import write_case, write_folder


@pytest.fixture
def run(monkeypatch, capsys):
    """Return a function that runs the tool in this process: ``(exit status, lines)``."""
    tool = load_tool('check_goldens')

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['check_goldens.py', *map(str, args)])
        code = tool.main()
        captured = capsys.readouterr()
        return code, (captured.out + captured.err).splitlines()

    return run


def test_cases_that_agree(tmp_path, run):
    write_case(tmp_path / 'one')
    write_case(tmp_path / 'two', gradients=False)
    code, lines = run(tmp_path)
    assert code == 0
    assert lines[0].split()[:2] == ['one', 'ok'] and 'largest error' in lines[0] and 'tolerance 1e-04' in lines[0]
    assert lines[1].split()[:2] == ['two', 'ok']
    assert lines[2:] == ['2 cases, 0 failed']


def corrupt(path):
    tensors = load_file(path / 'expected.safetensors')
    tensors['out.p3'] += 0.1
    save_file(tensors, path / 'expected.safetensors')


def test_each_failure_is_one_line_and_the_other_cases_run(tmp_path, run):
    corrupt(write_case(tmp_path / 'a_corrupted', gradients=False))
    write_folder(tmp_path / 'b_unknown', 'unknown_kind', {}, {}, {}, {})
    (write_case(tmp_path / 'c_broken', gradients=False) / 'inputs.safetensors').unlink()
    write_folder(tmp_path / 'd_unfit', 'vitdet_d2', {}, {}, {}, {})
    write_case(tmp_path / 'e_good', gradients=False)
    code, lines = run(tmp_path)
    assert code == 1
    assert [line.split()[1] for line in lines[:5]] == ['FAILED'] * 4 + ['ok']
    assert 'in out.p3' in lines[0] and "'unknown_kind'" in lines[1] and 'not a complete case' in lines[2]
    assert str(tmp_path / 'd_unfit') in lines[3]
    assert lines[5:] == ['5 cases, 4 failed']


@pytest.mark.parametrize(('arguments', 'expected'), [([], 1), (['--skip-unknown'], 0)])
def test_an_unknown_kind_fails_unless_skipped(tmp_path, run, arguments, expected):
    write_folder(tmp_path / 'case', 'unknown_kind', {}, {}, {}, {})
    code, lines = run(tmp_path, *arguments)
    assert code == expected
    assert lines[0].split()[1] == ('skipped' if arguments else 'FAILED')


def test_a_broken_case_is_not_skipped(tmp_path, run):
    (write_folder(tmp_path / 'case', 'unknown_kind', {}, {}, {}, {}) / 'case.json').write_text('{')
    assert run(tmp_path, '--skip-unknown')[0] == 1


def test_a_folder_without_cases(tmp_path, run):
    for root in (tmp_path, tmp_path / 'nowhere'):
        code, lines = run(root)
        assert code == 2
        assert lines == [f'error: {root} holds no case; give a folder with case.json, or a folder of such folders']
