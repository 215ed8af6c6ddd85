import pytest
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, LoggerHook

import vitdet_plugin
from vitdet_plugin.config.registry import as_list, find_type, is_classifier, model_config, type_name
from vitdet_plugin.datasets.checks.class_folders import is_folder_dataset
from vitdet_plugin.datasets.checks.detection_data import reads_coco
from vitdet_plugin.engine.session import use_safe_hooks

vitdet_plugin.register_all()


def classes():
    from mmdet.datasets import CocoDataset
    from mmdet.models import MaskRCNN
    from mmpretrain.datasets import ImageNet
    from mmpretrain.models import ImageClassifier
    return dict(coco=CocoDataset, images=ImageNet, detector=MaskRCNN, classifier=ImageClassifier)


@pytest.mark.parametrize('as_class', [False, True], ids=['names', 'classes'])
def test_types_may_be_names_or_classes(as_class):
    types = {key: value if as_class else value.__name__ for key, value in classes().items()}
    assert is_classifier(Config(dict(model=dict(type=types['classifier']))))
    assert not is_classifier(Config(dict(model=dict(type=types['detector']))))
    assert reads_coco(dict(type=types['coco'])) and not reads_coco(dict(type=types['images']))
    assert is_folder_dataset(dict(type=types['images'])) and not is_folder_dataset(dict(type=types['coco']))


def test_data_sets_that_read_their_files_themselves():
    from mmdet.datasets import CocoDataset
    from mmpretrain.datasets import CustomDataset

    class OwnCoco(CocoDataset):
        def load_data_list(self):
            return []

    class OwnTable(CustomDataset):
        def load_data_list(self):
            return []

    class Named(CustomDataset):
        METAINFO = dict(classes=('a', 'b'))

    assert not reads_coco(dict(type=OwnCoco)) and not is_folder_dataset(dict(type=OwnTable))
    assert is_folder_dataset(dict(type=Named))


@pytest.mark.parametrize('as_class', [False, True], ids=['names', 'classes'])
def test_hooks_of_mmengine_are_replaced_whether_a_name_or_a_class(as_class):
    kind = CheckpointHook if as_class else 'mmengine.CheckpointHook'
    cfg = Config(dict(default_hooks=dict(checkpoint=dict(type=kind, interval=3))))
    use_safe_hooks(cfg)
    assert cfg.default_hooks.checkpoint == dict(type='AtomicCheckpointHook', interval=3)


@pytest.mark.parametrize(('cfg', 'name'), [
    (dict(type='Resize'), 'Resize'), (dict(type='mmdet.Resize'), 'Resize'), (dict(type=LoggerHook), 'LoggerHook'),
    (dict(), ''), (dict(type=None), ''), (None, ''), ('Resize', '')])
def test_bare_names(cfg, name):
    assert type_name(cfg) == name


def test_unknown_types_are_none():
    assert find_type(dict(type='NoSuchThing')) is None and find_type({}) is None


def test_a_model_is_copied_with_the_preprocessor_next_to_it():
    cfg = Config(dict(model=dict(type='A', head=dict(b=1)), data_preprocessor=dict(mean=[1.0])))
    model = model_config(cfg)
    model['head']['b'] = 2
    assert model['data_preprocessor'] == dict(mean=[1.0]) and cfg.model == dict(type='A', head=dict(b=1))
    inside = Config(dict(model=dict(data_preprocessor=dict(mean=[2.0])), data_preprocessor=dict(mean=[1.0])))
    assert model_config(inside)['data_preprocessor'] == dict(mean=[2.0])


def test_lists_of_one():
    assert as_list(3) == [3] and as_list((1, 2)) == [1, 2] and as_list(None) == [None]
