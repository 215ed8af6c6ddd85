"""The table of published weights, and the configs that name them."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS

from vitdet_plugin.checkpoints.published import TABLE, explain_unknown, find_published, is_name
from vitdet_plugin.compat.packaged_configs import shipped_configs
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.engine.check_weights import weight_files
from vitdet_plugin.errors import UserError

ROOT = Path(__file__).parents[2]


def test_names_and_files_are_unique():
    assert all(entry.name == name for name, entry in TABLE.items())
    assert len({entry.file_name for entry in TABLE.values()}) == len({entry.file_name.lower() for entry in
                                                                      TABLE.values()}) == len(TABLE)


@pytest.mark.parametrize('name', TABLE)
def test_an_entry_is_complete(name):
    entry = TABLE[name]
    assert re.fullmatch(r'[a-z0-9_-]+', name) and entry.license and entry.fits and len(entry.statistics) == 2
    assert entry.url.startswith('https://') and entry.source.startswith('https://')
    assert re.fullmatch(r'[\w.-]+\.(pth|pth\.tar|pt|pkl|th)', entry.file_name)
    assert entry.gated or entry.url.endswith(entry.file_name)
    if entry.digest:
        assert re.fullmatch(r'sha256:([0-9a-f]{8}|[0-9a-f]{64})|md5:[0-9a-f]{6}', entry.digest)
        assert entry.digest[7:] in entry.file_name or len(entry.digest) != len('sha256:01234567')
    if entry.fits.startswith('config '):
        assert entry.fits.removeprefix('config ') in shipped_configs()
    elif '(' in entry.fits:
        kind, arguments = entry.fits.rstrip(')').split('(', 1)
        arguments = dict(each.split('=') for each in arguments.split(', ') if each)
        with torch.device('meta'):
            MODELS.build(dict(type=kind, **{key: ast.literal_eval(value) for key, value in arguments.items()}))


def test_the_weights_of_all_shipped_configs_are_in_the_table():
    named = set()
    for path in shipped_configs().values():
        if 'checkpoint' in (text := path.read_text()) or 'load_from' in text or '_base_' in text:
            for entry in weight_files(load_config(str(path))):
                assert entry.file in TABLE or Path(entry.file).is_file(), path
                named.add(entry.file)
    assert {'mae_b', 'mae_l', 'mae_h', 'volo_d1_224', 'vil2_tiny', 'internimage_l_22k_192to384'} <= named


def test_documented_names_exist():
    for page in [*(ROOT / 'docs').glob('*.md'), *(ROOT / 'configs').rglob('*.md')]:
        for line in re.findall(r'vitdet weights get (?!https?://)([\w -]+)', page.read_text()):
            assert set(line.split()) <= set(TABLE) | {'NAME'}, page


def test_what_a_name_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_name('mae_b') and is_name('timm:anything') and not is_name('mae_b.pth') and not is_name('x/mae_b')
    assert find_published('checkpoints/mae_b') is None
    (tmp_path / 'mae_b').touch()
    assert find_published('mae_b') is None and not is_name('mae_b')


def test_weights_of_timm():
    entry = find_published('timm:vit_base_patch16_clip_224.openai')
    assert entry.url == 'https://huggingface.co/timm/vit_base_patch16_clip_224.openai/resolve/main/model.safetensors'
    assert entry.file_name == 'vit_base_patch16_clip_224.openai.safetensors' and entry.statistics[0][0] == 122.771
    assert find_published('timm:vit_small_patch14_dinov2').name == 'timm:vit_small_patch14_dinov2.lvd142m'
    with pytest.raises(UserError, match=r'no weights for a model of this name \(did you mean vit_base_patch16_clip'):
        find_published('timm:vit_base_patch16_clip_224.opena')


def test_hints():
    assert '(did you mean dinov2_s14' in explain_unknown('dinov2_s15')
    assert explain_unknown('checkpoints/mae_pretrain_vit_base.pth') == (
        '; "vitdet weights get mae_b" downloads the published file: give mae_b instead of a path')
    assert explain_unknown('checkpoints/mine.pth') == ''


def test_the_table_is_light():
    code = 'import sys, vitdet_plugin.checkpoints.published; assert not {"torch", "timm"} & set(sys.modules)'
    subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)


@pytest.mark.parametrize('size', 'sblg')
def test_dinov2_without_its_patch_size(size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_published(f'dinov2_{size}') is TABLE[f'dinov2_{size}14'] and is_name(f'dinov2_{size}')
    (tmp_path / f'dinov2_{size}').write_text('')
    assert find_published(f'dinov2_{size}') is None and not is_name(f'dinov2_{size}')
