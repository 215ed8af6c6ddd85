"""Recognition of formats: the reason, ambiguous and unknown names, and independence of the order of formats."""

import re

import pytest
import torch

from tests.checkpoints import models, official_names
from tests.checkpoints.test_convnext import MMPRETRAIN, OFFICIAL, OPENMMLAB, renamed
from tests.checkpoints.test_convnext import classifier as convnext
from tests.checkpoints.test_round_trips import CASES
from vitdet_plugin.checkpoints.converter import convert_checkpoint
from vitdet_plugin.checkpoints.formats import Format, find_format
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.checkpoints.recognition import OURS, known_formats
from vitdet_plugin.errors import UserError


def names_of_every_format():
    """Weight names in each published format that the tests can write, and names of this project's own files."""
    detector, plain = models.detector(1).state_dict(), models.backbone(1).state_dict()
    yield from ((names, list(names(detector))) for names in (
        official_names.detectron2, official_names.mmdet_project, official_names.easycv))
    yield from ((names, list(names(plain))) for names in (official_names.mae, official_names.sam))
    for case, (build, names, _) in CASES.items():
        yield case, list(names(build(1).state_dict()))
    yield None, list(detector)
    yield None, list(plain)


def test_the_order_of_formats_does_not_matter():
    formats = known_formats()
    for case, names in names_of_every_format():
        results = [find_format(order, names, 'x.pth') for order in (formats, formats[::-1])]
        assert results[0] == results[1]
        assert (results[0] is None) == (case is None), case


def test_the_narrower_of_two_formats_is_selected():
    state = convnext(1, False).state_dict()
    mmdet = [*renamed(state, OPENMMLAB), 'backbone.norm0.weight']
    matching = [form.name for form in known_formats() if form.matched_keys(mmdet)]
    assert sorted(matching) == ['ConvNeXt, mmdet', 'ConvNeXt, mmpretrain']
    assert find_format(known_formats(), mmdet, '')[0].name == 'ConvNeXt, mmdet'
    assert find_format(known_formats(), list(renamed(state, MMPRETRAIN)), '')[0].name == 'ConvNeXt, mmpretrain'


def test_narrower_means_all_conditions_of_the_other_and_more():
    wide, narrow = Format('wide', ('a',), []), Format('narrow', ('a', 'b'), [])
    assert narrow.is_narrower_than(wide) and not wide.is_narrower_than(narrow)
    assert Format('x', ('a',), [], without=('c',)).is_narrower_than(wide)
    assert not Format('same keys', ('a',), []).is_narrower_than(wide)
    assert not Format('fewer exclusions', ('a', 'b'), []).is_narrower_than(Format('y', ('a',), [], without=('c',)))


def test_patterns():
    form = Format('x', ('net.*|backbone.net.*', 'head.?.weight'), [], without=('*rel_pos*',))
    names = ['other', 'backbone.net.0', 'net.1', 'head.1.weight']
    assert form.matched_keys(names) == ['backbone.net.0', 'head.1.weight']
    assert form.matched_keys([*names, 'net.rel_pos_h']) == form.matched_keys(['xnet.1', 'head.1.weight']) == []
    assert Format('only by name', (), []).matched_keys(names) == []


def test_an_ambiguous_file_names_the_candidates_and_loads_when_the_format_is_given(tmp_path):
    """Both ConvNeXt and detectron2 names: recognition must not depend on which module comes first."""
    state = {**renamed(convnext(1, False).state_dict(), OFFICIAL),
             'backbone.net.blocks.0.norm1.weight': torch.zeros(4)}
    path = tmp_path / 'both.pth'
    torch.save(state, path)
    target = convnext(2, False)
    with pytest.raises(UserError) as caught:
        load_official(target, path)
    line = str(caught.value)
    assert '\n' not in line and line.startswith(f'{path}: the names of the weights fit several formats: ')
    assert "'ConvNeXt' by 'stages.0.0.dwconv.weight'" in line
    assert "'detectron2 ViTDet' by 'backbone.net.blocks.0.norm1.weight'" in line
    assert 'form=NAME' in line and '--as NAME' in line
    report = load_official(target, path, form='ConvNeXt', allow_unexpected=['backbone.net.*'])
    assert report.reason == 'the format was given' and not report.missing
    report = convert_checkpoint(path, tmp_path / 'out.pth', form='ConvNeXt', allow_unexpected=['backbone.net.*'])
    assert report.recognized_as == 'ConvNeXt'


def test_preflight_reports_an_ambiguous_file(tmp_path):
    from vitdet_plugin.engine.check_weights import check_official, is_official
    path = tmp_path / 'both.pth'
    torch.save({'stages.0.0.dwconv.weight': torch.zeros(1), 'net.blocks.0.norm1.weight': torch.zeros(1)}, path)
    assert is_official(str(path))
    (finding,) = check_official('load_from', str(path), models.backbone(1))
    assert finding.level == 'error' and 'fit several formats' in finding.text


def test_an_unknown_format_lists_the_expected_names(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save({'conv1.weight': torch.zeros(1)}, path)
    with pytest.raises(UserError) as caught:
        load_official(models.backbone(1), path)
    line = str(caught.value)
    assert '\n' not in line and 'first names: conv1.weight' in line
    for form in known_formats():
        assert all(f"'{key}'" in line for key in form.keys)
    assert "MAE: 'cls_token', 'pos_embed', 'blocks.0.attn.qkv.weight'" in line


def test_the_reason_is_in_the_report(tmp_path):
    torch.save(official_names.detectron2(models.detector(1).state_dict()), tmp_path / 'd2.pth')
    first = str(load_official(models.detector(2), tmp_path / 'd2.pth')).splitlines()[0]
    assert re.search(r"recognized as detectron2 ViTDet \('backbone\.net\.blocks\.0\.[\w.]+'\); \d+ weights", first)
    torch.save(models.backbone(1).state_dict(), tmp_path / 'own.pth')
    report = load_official(models.backbone(2), tmp_path / 'own.pth')
    assert report.reason.startswith("'backbone.pos_embed' and ")


def test_every_format_has_keys_or_is_selected_by_name():
    assert [form.name for form in known_formats() if not form.keys] == ['EasyCV ViTDet, scaled rel_pos']
    assert len({form.name for form in known_formats()}) == len(known_formats())
    assert OURS[0] not in {form.name for form in known_formats()}
