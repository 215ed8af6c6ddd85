"""Evaluators are compared with the data set before a run."""

import json

import pytest

from tests.end_to_end.tiny_set import write_tiny_set
from vitdet_plugin.datasets.checks.evaluated_file import (
    check_evaluators,
    check_repeated_images,
    evaluates_masks,
    measured_kinds,
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = write_tiny_set(tmp_path_factory.mktemp('evaluated') / 'set', images=3)
    content = json.loads((folder / 'coco.json').read_text())
    (folder / 'more.json').write_text(json.dumps({**content, 'images': content['images'] + [
        dict(id=9, file_name='009.jpg', width=9, height=9)]}))
    (folder / 'other.json').write_text(json.dumps({**content, 'images': [
        {**each, 'id': each['id'] + 1} for each in content['images']]}))
    (folder / 'boxes.json').write_text(json.dumps({**content, 'annotations': [
        {**each, 'segmentation': []} for each in content['annotations']]}))
    first, *rest = content['annotations']
    (folder / 'moved.json').write_text(json.dumps({**content, 'annotations': [{**first, 'bbox': [0, 0, 5, 5]}, *rest]}))
    return folder


def check(folder, name, metric=('bbox', 'segm'), data='coco.json', kind='FastCocoMetric'):
    dataset = dict(type='CocoDataset', data_root=str(folder), ann_file=data)
    evaluator = dict(type=kind, ann_file=str(folder / name), metric=list(metric))
    findings = check_evaluators('val', [evaluator], [('val_dataloader.dataset', dataset)])
    assert all(finding.level == 'error' and '\n' not in finding.text for finding in findings)
    return [finding.text for finding in findings]


def test_the_same_images_and_more_pass(folder):
    assert check(folder, 'coco.json') == check(folder, 'more.json') == check(folder, 'boxes.json') == []
    assert check(folder, 'other.json', kind='VOCMetric') == [] and check_evaluators('val', None, []) == []


def test_other_ids_are_an_error_with_both_files(folder):
    text, = check(folder, 'other.json')
    assert text.startswith(f'val_evaluator.ann_file: {folder}/other.json has other images or image ids than '
                           f'{folder}/coco.json of val_dataloader.dataset (3 of 3 differ: id 1 is absent there')
    assert check(folder, 'other.json', data='other.json') == []


def test_other_objects_are_a_warning(folder):
    dataset = dict(type='CocoDataset', data_root=str(folder), ann_file='coco.json')
    evaluator = dict(type='FastCocoMetric', ann_file=str(folder / 'moved.json'), metric='bbox')
    finding, = check_evaluators('val', evaluator, [('val_dataloader.dataset', dataset)])
    assert finding.level == 'warning' and finding.text.startswith(
        f'val_evaluator.ann_file: {folder}/moved.json has other objects than {folder}/coco.json of '
        'val_dataloader.dataset (2 are in one of them only)')


def test_masks_that_the_file_does_not_have(folder):
    assert 'has no masks, so segm cannot be evaluated' in check(folder, 'boxes.json', ['segm'])[0]
    assert measured_kinds(dict(ann_file=str(folder / 'boxes.json'), metric=['bbox', 'segm'])) == ['bbox']
    assert measured_kinds(dict(ann_file=str(folder / 'coco.json'), metric=['bbox', 'segm'])) == ['bbox', 'segm']


def test_evaluates_masks():
    assert evaluates_masks(dict(type='CocoMetric', metric=['bbox', 'segm']))
    assert not evaluates_masks([dict(type='CocoMetric', metric='bbox'), dict(type='CocoMetric')])
    assert not evaluates_masks(None)


def test_evaluators_without_a_type_or_a_file_are_errors(folder):
    dataset = dict(type='CocoDataset', data_root=str(folder), ann_file='coco.json')
    for evaluators, line in (
            (dict(type='FastCocoMetric'), f'val_evaluator.ann_file is not set, so there is nothing to compare with; '
                                          f'set it to {folder}/coco.json'),
            ([dict(ann_file='x.json')], "val_evaluator.0 has no 'type'; add it, such as type='CocoMetric'. A dict of a "
                                        'base config is not merged into a list')):
        finding, = check_evaluators('val', evaluators, [('val_dataloader.dataset', dataset)])
        assert finding == ('error', line)
    packed = [('val_dataloader.dataset', dict(dataset, pipeline=[dict(type='PackDetInputs', meta_keys=['instances'])]))]
    assert check_evaluators('val', dict(type='FastCocoMetric', format_only=True, outfile_prefix='x'), packed) == []


@pytest.mark.parametrize(('options', 'says'), [
    (dict(metric='proposal_fast'), "val_evaluator.metric='proposal_fast' does not work"),
    (dict(metric_items=['AP50']), "val_evaluator.metric_items: 'AP50' is unknown"),
    (dict(proposal_nums=(1, 10, 300)), 'val_evaluator.proposal_nums=(1, 10, 300) lacks 100'),
    (dict(proposal_nums=(100,)), 'give three numbers'), (dict(type='CocoMetric', iou_thrs=[0.3]), "'FastCocoMetric'"),
    (dict(format_only=True), 'requires outfile_prefix'),
    (dict(format_only=True, ann_file=None, outfile_prefix='x'), 'val_evaluator.ann_file is not set')])
def test_values_with_which_an_evaluation_fails_or_measures_nothing(folder, options, says):
    dataset = dict(type='CocoDataset', data_root=str(folder), ann_file='coco.json')
    own = dict(type='FastCocoMetric', ann_file=str(folder / 'coco.json'), metric='bbox')
    assert check_evaluators('val', own, [('val_dataloader.dataset', dataset)]) == []
    finding, = check_evaluators('val', dict(own, **options), [('val_dataloader.dataset', dataset)])
    assert finding.level == 'error' and says in finding.text


def test_an_evaluator_for_each_part_of_the_data(folder):
    datasets = [(f'val_dataloader.dataset.datasets.{index}', dict(type='CocoDataset', data_root=str(folder),
                                                                  ann_file=name))
                for index, name in enumerate(('coco.json', 'other.json'))]
    parts = [dict(type='FastCocoMetric', ann_file=str(folder / name), metric='bbox') for name in ('coco.json',
                                                                                                 'other.json')]
    evaluator = dict(type='MultiDatasetsEvaluator', dataset_prefixes=['a', 'b'], metrics=parts)
    assert check_evaluators('val', evaluator, datasets) == []
    finding, = check_evaluators('val', dict(evaluator, metrics=parts[::-1]), datasets[:1])
    assert 'has other images or image ids' in finding.text


def test_an_image_that_is_evaluated_twice(folder):
    def check(*names, times=None, evaluator='FastCocoMetric'):
        sets = [dict(type='CocoDataset', data_root=str(folder), ann_file=name) for name in names]
        dataset = dict(type='RepeatDataset', times=times, dataset=sets[0]) if times else dict(
            type='ConcatDataset', datasets=sets)
        findings = check_repeated_images('val', [dict(type=evaluator)], dataset)
        return [finding.text for finding in findings if finding.level == 'error']

    key = 'val_dataloader.dataset'
    text, = check('coco.json', 'more.json')
    assert text.startswith(f'{key}: image id 1 (001.jpg) is in {key}.datasets.0 and in {key}.datasets.1;')
    text, = check('coco.json', times=2)
    assert text.startswith(f'{key}: RepeatDataset(times=2) evaluates each image 2 times')
    assert check('coco.json') == check('coco.json', times=1) == []
    assert check('coco.json', 'coco.json', evaluator='VOCMetric') == []
    assert check('coco.json', 'other.json') == []  # other images under the same ids, which check_evaluators reports
