"""``vitdet report``: the page of a run, its options, and what a run may lack."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.end_to_end.tiny_set import CONFIG, write_tiny_set
from tests.visualization.html_report.pages import Page
from tests.visualization.html_report.test_report import PARTS, write_log
from vitdet_plugin.cli.main import main
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.detections import read_detections


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    """A work directory with config, logs and a checkpoint of random weights after 30 iterations."""
    folder = write_log(tmp_path_factory.mktemp('runs') / 'my run')
    data = write_tiny_set(folder.parent / 'data', images=3)
    text = CONFIG.read_text().replace("os.environ.get('TINY_SET', 'nowhere')", repr(str(data)))
    (folder / 'tiny.py').write_text(text)
    init_default_scope('mmdet')
    from mmdet.registry import MODELS
    torch.manual_seed(0)
    state = MODELS.build(Config.fromfile(folder / 'tiny.py').model).state_dict()
    torch.save(dict(state_dict=state, meta=dict(iter=30, epoch=1, seed=7)), folder / 'iter_30.pth')
    return folder


@pytest.fixture(scope='module')
def cfg(work_dir):
    return Config.fromfile(work_dir / 'tiny.py')


def page_of(path):
    return Page(path.read_text(encoding='utf-8'))


def test_a_work_directory_and_its_results(work_dir, tmp_path, capsys):
    assert main(['report', str(work_dir), '--maps', '1', '--score-thr', '0.02', '--device', 'cpu']) == 0
    assert 'report.html, report.txt, report.json, curves.png' in capsys.readouterr().out
    page, record = page_of(work_dir / 'report' / 'report.html'), json.loads(
        (work_dir / 'report' / 'report.json').read_text())
    assert page.titles == PARTS and 'after epoch 1, iter 30' in ''.join(page.texts)
    assert 'yellow raises it most' in page.sections['Activation maps'] and page.count['img'] >= 8
    assert record['checkpoint'].endswith('iter_30.pth') and 'mask_ap50' in record['per_class']['plum']

    assert main(['test', str(work_dir), '--out', str(tmp_path / 'found.json'), '--work-dir', str(tmp_path / 'w')]) == 0
    out = tmp_path / 'my page.html'
    assert main(['report', str(work_dir), '--results', str(tmp_path / 'found.json'), '--out', str(out), '--maps', '0',
                 '--score-thr', '0.02']) == 0
    again = page_of(out)
    same = ('Average precision', 'Score threshold', 'Types of errors', 'Confusion matrix')
    assert {name: again.sections[name] for name in same} == {name: page.sections[name] for name in same}
    assert 'found.json' in ''.join(again.texts)
    assert [path.name for path in tmp_path.iterdir() if path.suffix in ('.html', '.txt', '.png')] == ['my page.html']


def test_a_run_without_checkpoint_or_evaluated_split(work_dir, tmp_path, capsys):
    run = write_log(tmp_path / 'run')
    log = next(run.glob('*/vis_data/scalars.json'))
    log.write_text(log.read_text() + '{"lr": 0.1, "lo')  # the process was killed while it wrote
    text = (work_dir / 'tiny.py').read_text()
    (run / 'tiny.py').write_text(text)
    assert main(['report', str(run)]) == 0
    shown = capsys.readouterr()
    assert 'warning: the evaluation is left out: ' in shown.err and 'report.html in ' in shown.out
    page = page_of(run / 'report' / 'report.html')
    assert page.titles == ['Training', 'Evaluation', 'Data set', 'Environment', 'Config']
    assert 'holds no checkpoint' in page.sections['Evaluation'] and 'Loss' in page.sections['Training']
    assert 'bbox_mAP, last evaluation' in page.texts

    (run / 'iter_30.pth').write_bytes((work_dir / 'iter_30.pth').read_bytes())
    for change, reason in ((dict(test='None', val='None'), 'neither test_dataloader nor val_dataloader'),
                           (dict(test='dict(dataset=dict(type="CocoDataset", ann_file="/none.json"))', val='None'),
                            '/none.json of test_dataloader does not exist')):
        extra = ''.join(f'{name}_dataloader = {value}\n' for name, value in change.items())
        (run / 'tiny.py').write_text(f'{text}\n{extra}')
        assert main(['report', str(run), '--out', str(tmp_path / 'page.html')]) == 0
        assert reason in capsys.readouterr().err
        assert reason in page_of(tmp_path / 'page.html').sections['Evaluation']


def test_a_checkpoint_without_a_run(work_dir, tmp_path):
    alone = tmp_path / 'weights' / 'w.pth'
    alone.parent.mkdir()
    alone.write_bytes((work_dir / 'iter_30.pth').read_bytes())
    assert main(['report', str(work_dir / 'tiny.py'), str(alone), '--out', str(tmp_path / 'out'), '--maps', '0']) == 0
    page = page_of(tmp_path / 'out' / 'report.html')
    assert 'Left out: ' in page.sections['Training'] and 'scalars.json not found' in page.sections['Training']


@pytest.mark.parametrize('words, says', [
    (['--images', '-1'], '--images -1: give a number of at least 0'),
    (['--maps', '-1'], '--maps -1: give a number of at least 0'),
    (['--results', 'none.json'], '--results none.json does not exist'),
    (['--split', 'val', '--cfg-options', 'val_dataloader=None'], 'has no val_dataloader')])
def test_mistakes_are_one_line(work_dir, tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    assert main(['report', str(work_dir), '--out', str(tmp_path / 'out'), *words]) == 2
    error = capsys.readouterr().err
    assert error.count('error: ') == 1 and says in error and not list(tmp_path.iterdir())


ROW = dict(image_id=1, category_id=1, bbox=[0, 0, 9, 9], score=0.5)


@pytest.mark.parametrize('content, says', [
    ('{', 'is not JSON'), ('{}', 'is not a list of COCO results'), ('[3]', 'result 1: not an object'),
    ([{**ROW, 'image_id': 99}], 'image_id 99 is not in the test split'),
    ([ROW, {**ROW, 'category_id': 7}], 'result 2: category_id 7 is not in the test split'),
    ([{**ROW, 'bbox': [1, 2]}], r'bbox is \[1, 2\]'), ([{**ROW, 'score': 'x'}], "score is 'x'"),
    ([{key: ROW[key] for key in ('image_id', 'bbox', 'score')}], 'category_id is missing'),
    ([{**ROW, 'segmentation': [[1, 2, 3]]}], 'segmentation is not RLE')])
def test_other_files_of_results_are_named(cfg, tmp_path, content, says):
    (tmp_path / 'r.json').write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=says):
        read_detections(cfg, 'test', tmp_path / 'r.json')
