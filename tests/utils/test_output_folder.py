"""Files that a command did not write are not replaced; those of earlier runs are named."""

import pytest

from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.output_folder import OutputFolder
from vitdet_plugin.utils.paths import check_inputs_are_kept, check_output_path


def write(folder, *names, results=()):
    output = OutputFolder(folder, results)
    for name in names:
        path = output.claim(folder / name)
        path.parent.mkdir(exist_ok=True)
        path.write_text('new')
    return output


def test_files_of_others_are_not_replaced(tmp_path):
    (tmp_path / 'a.jpg').write_text('mine')
    with pytest.raises(UserError, match=r'a.jpg exists and was not written by an earlier run, so it is not replaced'):
        write(tmp_path, 'a.jpg')
    (tmp_path / 'link.jpg').symlink_to(tmp_path / 'nowhere.jpg')
    with pytest.raises(UserError, match='link.jpg exists'):
        write(tmp_path, 'link.jpg')
    assert (tmp_path / 'a.jpg').read_text() == 'mine' and not (tmp_path / 'nowhere.jpg').exists()


def test_files_of_earlier_runs_are_replaced_or_named(tmp_path, capsys):
    out = tmp_path / 'out'
    write(out, 'labels/a.txt', 'x b.jpg', 'all.json', results=['all.json']).report_others()
    assert capsys.readouterr().err == ''
    write(out, 'labels/a.txt', results=['all.json']).report_others()
    assert capsys.readouterr().err == (f'warning: {out} also holds 2 files of an earlier run (all.json, x b.jpg): '
                                       'delete what is no longer needed, or give another output folder\n')
    assert OutputFolder(out).is_of_earlier_run(out / 'x b.jpg') and not OutputFolder(out).is_of_earlier_run(out / 'c')


def test_results_alone_leave_no_record(tmp_path):
    write(tmp_path / 'out', 'all.json', results=['all.json'])
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['all.json']


def test_inputs_are_kept(tmp_path):
    (tmp_path / 'a.json').write_text('{}')
    (tmp_path / 'link.json').symlink_to(tmp_path / 'a.json')
    check_inputs_are_kept('--out', [tmp_path / 'b.json'], [tmp_path / 'a.json'])
    with pytest.raises(UserError, match='--out: .*link.json would be replaced, which is an input'):
        check_inputs_are_kept('--out', [tmp_path / 'link.json'], [tmp_path / 'a.json'])


def test_suffixes_of_existing_files(tmp_path):
    (tmp_path / 'a.json').write_text('{}')
    check_output_path('--out', tmp_path / 'a.json', False, ('.json',))
    check_output_path('--out', tmp_path / 'new.json', False, ('.csv',))
    with pytest.raises(UserError, match='--out .*a.json: exists and is not a .csv file'):
        check_output_path('--out', tmp_path / 'a.json', False, ('.csv',))
