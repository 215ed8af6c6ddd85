"""What the documents promise: links lead somewhere, examples run. Command lines: test_commands.py."""

import re
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
def test_links_lead_somewhere(page):
    targets = re.findall(r'\]\(([^)#\s]+)(?:#[^)]*)?\)', page.read_text())
    missing = [target for target in targets if '://' not in target and not (page.parent / target).exists()]
    assert not missing


def test_the_inference_example_runs_as_written(tmp_path, monkeypatch, capsys):
    """On what `make demo` leaves behind, here with random weights."""
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
    """On what training leaves behind, here with random weights."""
    from vitdet_plugin.engine.load_model import load_model
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'pictures').mkdir()
    (tmp_path / 'work_dirs/vit-tiny_50e_plant-seedlings').mkdir(parents=True)
    cv2.imwrite('pictures/a.jpg', np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8))
    model = load_model(str(ROOT / 'configs/classification/vit-tiny_50e_plant-seedlings.py'), device='cpu').model
    torch.nn.init.constant_(model.head.fc.bias[7:8], 9)
    torch.nn.init.constant_(model.head.fc.bias[0:1], 7)
    torch.save(dict(state_dict=model.state_dict()), 'work_dirs/vit-tiny_50e_plant-seedlings/epoch_1.pth')
    example = next(block for block in blocks(README, 'python') if 'classifier.predict' in block)
    exec(compile(example, 'README.md', 'exec'), {})
    assert re.search(r'pictures/a.jpg: Maize 0.\d\d, or else Black-grass 0.\d\d', capsys.readouterr().out)


def test_the_backbone_example_prints_what_it_says(capsys):
    example = next(block for block in blocks(README, 'python') if 'import ViTDet' in block)
    exec(compile(example, 'README.md', 'exec'), {})
    assert capsys.readouterr().out.strip() == re.search(r'# (torch\.Size\(.*\))', example)[1]


def test_the_demos_checkpoint_has_the_name_that_the_readme_gives():
    last = load_config(str(ROOT / 'configs/vitdet_demo.py')).train_cfg.max_iters
    assert set(re.findall(r'vitdet_demo/(iter_\d+\.pth)', README)) == {f'iter_{last}.pth'}
