"""The documents: links resolve, examples run, the site builds. Command lines are in test_commands.py."""

import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vitdet_plugin.config.loading import load_config

ROOT = Path(__file__).resolve().parents[1]
PAGES = [path for path in sorted(ROOT.rglob('*.md')) if not {'work_dirs', '.pytest_cache', '.git'} & set(path.parts)]
README = (ROOT / 'README.md').read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf'```{language}\n(.*?)```', text, re.DOTALL)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
    targets = re.findall(r'\]\(([^)#\s]+)(?:#[^)]*)?\)', page.read_text())
    missing = [target for target in targets if '://' not in target and not (page.parent / target).exists()]
    assert not missing


PYTHON = [(str(page.relative_to(ROOT)), block) for page in PAGES for block in blocks(page.read_text(), 'python')]


@pytest.mark.parametrize(('page', 'block'), PYTHON)
def test_python_blocks_compile_and_import_what_exists(page, block):
    compile(block, page, 'exec')
    for module, names in re.findall(r'^from ((?:vitdet_plugin|ops_dcnv3)[\w.]*) import ([\w, ]+)', block, re.MULTILINE):
        missing = [name for name in names.split(', ')
                   if not hasattr(importlib.import_module(module), name)
                   and importlib.util.find_spec(f'{module}.{name}') is None]
        assert not missing


def test_the_config_for_own_data_is_complete(tmp_path):
    """It builds on a shipped config and changes keys that exist there."""
    text = (ROOT / 'docs' / 'own-data.md').read_text()
    block = next(block for block in blocks(text, 'python') if '_base_' in block)
    assert "'vitdet_plugin::" in block
    (tmp_path / 'mine.py').write_text(block.replace('vitdet_plugin::', f'{ROOT}/configs/'))
    config, base = load_config(str(tmp_path / 'mine.py')), load_config(str(ROOT / 'configs' / 'vitdet_100e.py'))
    for loader, split in (('train_dataloader', 'train'), ('val_dataloader', 'val'), ('test_dataloader', 'val')):
        dataset = config[loader].dataset
        assert dataset.type == base[loader].dataset.type == 'CocoDataset'
        assert (dataset.data_root, dataset.ann_file) == ('data/mine/', f'{split}.json')
        assert dataset.data_prefix.img == f'{split}/' and dataset.metainfo.classes == ('cat', 'dog')
        assert set(dataset) <= {*base[loader].dataset, 'metainfo'}
    assert config.test_evaluator.ann_file == 'data/mine/val.json'
    assert config.model.roi_head.bbox_head.num_classes == config.model.roi_head.mask_head.num_classes == 2


def test_the_site_builds_without_warnings(tmp_path):
    for package in ('mkdocs', 'material', 'mkdocstrings'):
        pytest.importorskip(package, reason=f'{package} is not installed')
    done = subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(tmp_path / 'site')],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / 'site' / 'reference' / 'backbones.html').read_text()
    assert 'id="vitdet_plugin.backbones.vitdet.ViTDet"' in reference
    home = (tmp_path / 'site' / 'index.html').read_text()
    assert 'href="models/vitdet.html"' in home and 'href="installation.html"' in home
    for path in (tmp_path / 'site').rglob('*.html'):
        shown = re.findall(r'<img [^>]*src="([^":]+)"', path.read_text())
        assert all((path.parent / name).is_file() for name in shown), path
        assert '<p>!' not in path.read_text() and '<td>!' not in path.read_text(), f'{path}: an image is not shown'
    assert 'src="images/predictions.jpg"' in home


def test_the_inference_example_runs_as_written(tmp_path, monkeypatch, capsys):
    """On the output of `make demo`, here with random weights."""
    from mmengine.registry import init_default_scope
    init_default_scope('mmdet')
    from mmdet.registry import MODELS
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data/demo/val').mkdir(parents=True)
    (tmp_path / 'work_dirs/vitdet_demo').mkdir(parents=True)
    cv2.imwrite('data/demo/val/a.jpg', np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8))
    model = MODELS.build(load_config(str(ROOT / 'configs/vitdet_demo.py')).model)
    torch.nn.init.constant_(model.roi_head.bbox_head.fc_cls.bias[:1], 9)  # something to print
    torch.save(dict(state_dict=model.state_dict()), 'work_dirs/vitdet_demo/iter_1.pth')
    example = next(block for block in blocks(README, 'python') if 'Inferencer' in block)
    exec(compile(example, 'README.md', 'exec'), {})
    assert 'data/demo/val/a.jpg: ball 1.00 at' in capsys.readouterr().out
    assert (tmp_path / 'work_dirs/drawn/a.jpg').is_file()


def test_the_classification_example_runs_as_written(tmp_path, monkeypatch, capsys):
    """On the output of training, here with random weights."""
    from vitdet_plugin.engine.load_model import load_model
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'images').mkdir()
    (tmp_path / 'work_dirs/vit-tiny_50e_plant-seedlings').mkdir(parents=True)
    cv2.imwrite('images/a.jpg', np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8))
    model = load_model(str(ROOT / 'configs/classification/vit-tiny_50e_plant-seedlings.py'), device='cpu').model
    torch.nn.init.constant_(model.head.fc.bias[7:8], 9)
    torch.nn.init.constant_(model.head.fc.bias[0:1], 7)
    torch.save(dict(state_dict=model.state_dict()), 'work_dirs/vit-tiny_50e_plant-seedlings/epoch_1.pth')
    example = next(block for block in blocks(README, 'python') if 'classifier.predict' in block)
    exec(compile(example, 'README.md', 'exec'), {})
    assert re.search(r'images/a.jpg: Maize 0.\d\d, or else Black-grass 0.\d\d', capsys.readouterr().out)


def test_the_backbone_example_prints_the_documented_shape(capsys):
    example = next(block for block in blocks(README, 'python') if 'import ViTDet' in block)
    exec(compile(example, 'README.md', 'exec'), {})
    assert capsys.readouterr().out.strip() == re.search(r'# (torch\.Size\(.*\))', example)[1]


def test_the_readme_names_the_checkpoint_of_the_demo():
    last = load_config(str(ROOT / 'configs/vitdet_demo.py')).train_cfg.max_iters
    assert set(re.findall(r'vitdet_demo/(iter_\d+\.pth)', README)) == {f'iter_{last}.pth'}
