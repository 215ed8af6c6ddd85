import json

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.end_to_end.tiny_set import load_tool
from vitdet_plugin.errors import UserError
from vitdet_plugin.visualization.curves import _draw_losses, plot_curves, read_scalars, smoothed
from vitdet_plugin.visualization.html_report.charts import Line, line_chart
from vitdet_plugin.visualization.html_report.elements import to_html


def write(folder, run, lines):
    file = folder / run / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text('\n'.join(json.dumps(line) for line in lines))
    return file


def training(iteration, loss):
    return dict(loss=loss, loss_mask=loss / 2, lr=0.1, iter=iteration, step=iteration)


@pytest.fixture
def work_dir(tmp_path):
    write(tmp_path, '20260101_000000', [training(1, 4.0), training(2, 3.0), {'coco/bbox_mAP': 0.1, 'step': 1},
                                        training(3, 9.0)])
    write(tmp_path, '20260102_000000', [training(3, 2.0), training(4, 1.0),
                                        {'coco/bbox_mAP': 0.2, 'coco/bbox_mAP_l': -1, 'step': 2}])
    return tmp_path


def test_runs_of_a_work_directory_are_joined_and_metrics_have_their_iteration(work_dir):
    run = read_scalars(work_dir)
    assert run.losses['loss'].tolist() == [[1, 4], [2, 3], [3, 2], [4, 1]]  # iteration 3 was repeated after a resume
    assert run.losses['loss_mask'][:, 1].tolist() == [2, 1.5, 1, 0.5]
    assert run.metrics == {'bbox_mAP': pytest.approx(np.array([[2, 0.1], [4, 0.2]]))}


def test_metrics_between_logged_losses_have_their_own_iteration(tmp_path):
    write(tmp_path, '20260101_000000', [{'coco/bbox_mAP': 0.1, 'step': 10}, training(20, 4.0),
                                        {'coco/bbox_mAP': 0.2, 'step': 20}, {'coco/bbox_mAP': 0.3, 'step': 30}])
    write(tmp_path, '20260102_000000', [{'coco/bbox_mAP': 0.4, 'step': 25}, training(40, 3.0)])  # resumed at 20
    assert read_scalars(tmp_path).metrics['bbox_mAP'].tolist() == [[10, 0.1], [20, 0.2], [25, 0.4], [30, 0.3]]
    epochs = write(tmp_path, 'epochs', [{**training(20, 4.0), 'epoch': 1}, {'accuracy/top1': 40.0, 'step': 1},
                                        {**training(40, 3.0), 'epoch': 2}, {'accuracy/top1': 50.0, 'step': 2}])
    assert read_scalars(epochs).metrics['top1'].tolist() == [[20, 40], [40, 50]]


@pytest.mark.parametrize('lines', [[training(1, 4.0), training(2, 3.0)], [{'coco/bbox_mAP': 0.1, 'step': 1}]])
def test_a_figure_of_losses_or_metrics_alone(tmp_path, lines):
    file = write(tmp_path, 'run', lines)
    image = cv2.imread(str(plot_curves(file, tmp_path / 'new' / 'curves.png')))
    assert image.shape[1] > image.shape[0] > 300 and image.std() > 5


def test_a_single_point_is_visible():
    axes = Figure().subplots()
    for count, marker in ((1, 'o'), (2, 'None')):
        _draw_losses(axes, dict(loss=np.arange(2.0 * count).reshape(count, 2)))
        assert axes.lines[-2].get_marker() == marker
    chart = line_chart('Loss', [Line('training', np.array([[2.0, 3.0]]))], 'iteration')
    assert 'training: 3 at 2' in to_html(chart)


def test_a_figure_of_losses_and_metrics(work_dir, tmp_path):
    assert cv2.imread(str(plot_curves(work_dir, tmp_path / 'c.png', title='a run'))).std() > 5


@pytest.mark.parametrize('count', [1, 20, 64, 200, 3000])
def test_thesmoothed_line_does_not_lag(count):
    falling = np.linspace(1, 0, count)
    assert np.abs(smoothed(falling) - falling).max() <= 0.02
    if count >= 200:
        noise = np.random.default_rng(0).normal(size=count)
        assert smoothed(noise).std() < 0.5 * noise.std()


@pytest.mark.parametrize('text, says', [('{"loss": 1\n', 'line 1: not JSON'), ('', 'nothing was logged')])
def test_errors(tmp_path, text, says):
    (tmp_path / 'scalars.json').write_text(text)
    with pytest.raises(UserError, match=says):
        read_scalars(tmp_path / 'scalars.json')
    with pytest.raises(UserError, match='scalars.json not found'):
        read_scalars(tmp_path / 'empty')


def test_classifiers_and_several_runs(work_dir, tmp_path):
    other = tmp_path / 'other run'
    write(other, '20260103_000000', [training(5, 1.0), {'accuracy/top1': 40.0, 'single-label/f1-score': 30.0, 'time': 1,
                                                        'coco/bbox_mAP': 0.3, 'step': 1}])
    assert set(read_scalars(other).metrics) == {'top1', 'f1-score', 'bbox_mAP'}
    assert cv2.imread(str(plot_curves([work_dir, other], tmp_path / 'both.png'))).std() > 5
    with pytest.raises(UserError, match="no metric 'top2'. Available metrics: bbox_mAP"):
        plot_curves([work_dir, other], tmp_path / 'both.png', metrics=['top2'])


def test_command(work_dir, tmp_path, capsys):
    command = load_tool('analysis/plot_curves').main
    assert command([str(work_dir), str(work_dir), '--names', 'one', 'two', '--out', str(tmp_path / 'a b.png')]) == 0
    assert cv2.imread(str(tmp_path / 'a b.png')).std() > 5
    assert command([str(tmp_path / 'none'), '--out', 'x.png']) == 2
    assert 'give a work directory or a scalars.json file' in capsys.readouterr().err
    assert command([str(work_dir), '--names', 'one', 'two', '--out', 'x.png']) == 2
