"""Which data the splits of a config use."""

from vitdet_plugin.config.dataset_config import data_files, distinct_splits


def loader(*leaves):
    sets = [dict(type='CocoDataset', data_root='data/', **leaf) for leaf in leaves]
    return dict(dataset=dict(type='ConcatDataset', datasets=sets) if len(sets) > 1 else sets[0])


def test_a_split_with_the_data_of_another_counts_once():
    val = loader(dict(ann_file='val.json'))
    cfg = dict(train_dataloader=loader(dict(ann_file='train.json'), dict(ann_file='/more.json')), val_dataloader=val,
               test_dataloader=val)
    assert distinct_splits(cfg) == [['train'], ['val', 'test']]
    assert data_files(cfg, 'train') == ['data/train.json', '/more.json'] and data_files(cfg, 'val') == ['data/val.json']
    assert distinct_splits(dict(train_dataloader=val, val_dataloader=None, test_dataloader=val)) == [['train', 'test']]


def test_folders_without_an_annotation_file():
    cfg = {f'{split}_dataloader': dict(dataset=dict(type='CustomDataset', data_root='s3://sets', data_prefix=split))
           for split in ('train', 'val', 'test')}
    assert distinct_splits(cfg) == [['train'], ['val'], ['test']]
    assert data_files(cfg, 'test') == ['s3://sets/test']
    assert data_files(dict(val_dataloader=dict(dataset=dict(type='CIFAR10'))), 'val') == ['CIFAR10']
    assert distinct_splits({}) == []
