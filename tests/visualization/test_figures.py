"""Figures with letters that the font lacks, and without effects on other figures."""

import warnings

import matplotlib

from vitdet_plugin.visualization.figures import new_figure, save


def test_letters_without_a_font_are_one_line(tmp_path, capsys):
    before = dict(matplotlib.rcParams)
    figure = new_figure(3, 2)
    figure.text(0.1, 0.5, 'a \U0001fffd \U0001fffe')  # letters that no font has
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        path = save(figure, tmp_path / 'new folder' / 'a.png')
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith(f'warning: {path}: ') and 'no installed font has them' in line
    assert path.stat().st_size > 0 and dict(matplotlib.rcParams) == before
