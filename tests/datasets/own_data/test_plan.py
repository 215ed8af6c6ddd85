"""Decisions about own data and their reasons."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.own_data.drawn_sets import CLASSES, CPU, class_set, drawn_set
from vitdet_plugin.datasets.formats.base import SourceImage, SourceSet
from vitdet_plugin.datasets.own_data.description import describe_plan
from vitdet_plugin.datasets.own_data.models import locate_weights
from vitdet_plugin.datasets.own_data.offers import MODELS
from vitdet_plugin.datasets.own_data.plan import Choices, make_plan
from vitdet_plugin.datasets.own_data.sizes import choose_anchors, choose_batch, choose_input, choose_length
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import counted

TINY = Choices(model='tiny')
GPU = dataclasses.replace(CPU, has_gpu=True, memory=24 * 2**30, name='a GPU')


def _line(plan, subject):
    return dict(describe_plan(plan))[subject]


def test_the_task_follows_from_what_the_objects_have(tmp_path):
    found = drawn_set(tmp_path, 12)
    plan = make_plan(found, TINY, CPU)
    assert (plan.task, plan.model.name) == ('segment', 'mask-rcnn-tiny')
    assert _line(plan, 'task') == 'segment: masks on 18 of 18 objects'
    assert make_plan(found, Choices(task='detect', model='tiny'), CPU).model.name == 'faster-rcnn-tiny'
    found.images[0].objects[0].mask = found.images[1].objects[0].mask = None
    assert 'masks on 16 of 18 objects, too few' in _line(make_plan(found, TINY, CPU), 'task')
    boxes = make_plan(drawn_set(tmp_path / 'd', 5), Choices(model='yolov5-tiny'), CPU)
    assert boxes.task == 'detect' and '--model yolov5-tiny has boxes only' in _line(boxes, 'task')
    forced = make_plan(found, Choices(task='segment', model='tiny'), CPU)
    assert 'the box is the mask of the other 2' in _line(forced, 'task')
    assert make_plan(drawn_set(tmp_path / 'b', 5, masks=False), TINY, CPU).task == 'detect'
    assert make_plan(class_set(tmp_path / 'c'), TINY, CPU).task == 'classify'


@pytest.mark.parametrize('choices, message', [
    (dict(task='classify'), 'the data set has objects'), (dict(model='mask'), '--model mask: not one of'),
    (dict(model='classifier'), 'is for the task classify'), (dict(model='yolov5-tiny', task='segment'), 'mask-rcnn'),
    (dict(weights='no_such'), 'no such file'),
    (dict(group_pattern='('), 'not a regular expression')])
def test_choices_that_do_not_fit(tmp_path, choices, message):
    with pytest.raises(UserError, match=message.replace('(', r'\(')):
        make_plan(drawn_set(tmp_path, 4), Choices(**{'model': 'tiny', **choices}), CPU)


def test_a_set_of_classes_has_no_boxes_or_tiles(tmp_path):
    found = class_set(tmp_path)
    for choices, message in ((Choices(task='detect'), 'use --task classify'), (Choices(tile=64), '--tile')):
        with pytest.raises(UserError, match=message):
            make_plan(found, choices, CPU)


def test_images_of_one_class_are_refused(tmp_path):
    found = class_set(tmp_path)
    for image in found.images:
        image.label = 'cat'
    with pytest.raises(UserError, match='images have the class cat; a classifier needs images of two or more classes'):
        make_plan(found, TINY, CPU)


def test_a_set_without_images_or_objects_is_refused(tmp_path):
    with pytest.raises(UserError, match='no image of the data set can be used'):
        make_plan(SourceSet('drawn'), TINY, CPU)
    found = drawn_set(tmp_path, 3)
    for image in found.images:
        image.objects.clear()
    with pytest.raises(UserError, match='none of the 3 images has an object'):
        make_plan(found, TINY, CPU)


def test_without_weights_the_small_model_is_taken_and_the_line_says_so(tmp_path, monkeypatch):
    """Tests have a mirror that refuses connections."""
    monkeypatch.setenv('VITDET_CACHE', str(tmp_path / 'cache'))
    plan = make_plan(drawn_set(tmp_path, 5), Choices(), CPU)
    assert plan.model.name == 'mask-rcnn-tiny'
    assert 'dinov2_s14 of mask-rcnn cannot be had' in _line(plan, 'model') and '--weights FILE' in _line(plan, 'model')
    named = make_plan(drawn_set(tmp_path, 5), Choices(model='mask-rcnn'), CPU)
    assert named.model.name == 'mask-rcnn' and 'cannot be had' in _line(named, 'model')


def test_weights_of_the_user(tmp_path):
    (tmp_path / 'w.pth').write_bytes(b'x')
    plan = make_plan(drawn_set(tmp_path, 5), Choices(weights=str(tmp_path / 'w.pth')), CPU)
    assert (plan.model.name, plan.weights) == ('mask-rcnn', str(tmp_path / 'w.pth'))


def test_small_objects_get_a_larger_input_a_finer_map_and_advice(tmp_path):
    (tmp_path / 'w.pth').write_bytes(b'x')
    choices = Choices(weights=str(tmp_path / 'w.pth'))
    usual = make_plan(drawn_set(tmp_path, 5, size=(400, 300), side=90), choices, CPU)
    assert usual.size.image_size == 448 and not usual.size.fine and not usual.size.advice
    small = make_plan(drawn_set(tmp_path / 'b', 5, size=(800, 600), side=14), choices, CPU)
    assert small.size.image_size == 832 and small.size.fine
    assert small.size.scales[0] * 4 < 14
    smaller = make_plan(drawn_set(tmp_path / 'c', 5, size=(2000, 1500), side=14), choices, CPU)
    assert '--tile' in str(smaller)
    # images that are enlarged already: tiles in their own resolution would show the objects smaller
    enlarged = make_plan(drawn_set(tmp_path / 'd', 5, size=(320, 240), side=4), choices, CPU)
    assert enlarged.size.image_size > 320 and '--tile' not in str(enlarged)


@pytest.mark.parametrize(('side', 'expected'), [(28, 112), (150, 168), (168, 168), (180, 224), (900, 224)])
def test_a_classifier_hardly_enlarges_small_images(side, expected):
    images = [SourceImage(Path(f'{number}.png'), side, 2 * side, label='a') for number in range(3)]
    assert choose_input(images, MODELS['classifier'], CPU).image_size == expected
    assert choose_input(images, MODELS['classifier'], CPU, given=56).image_size == 56


def test_anchors_cover_the_objects():
    random = np.random.default_rng(0)
    sizes = np.exp(random.uniform(np.log(15), np.log(400), (500, 1))) * random.uniform(0.8, 1.25, (500, 2))
    strides = (8, 16, 32, 64)
    scales, ratios = choose_anchors(sizes, strides)
    anchors = np.array([scale * stride for scale in scales for stride in strides])
    sides = np.sqrt(sizes.prod(1))
    nearest = np.abs(np.log(sides[:, None] / anchors)).min(1)
    assert np.quantile(nearest, 0.9) < np.log(1.5)
    assert ratios == (0.5, 1.0, 2.0)
    assert choose_anchors(np.array([[100., 10.]] * 9), strides)[1][0] == 0.25


def test_batch_and_length_depend_on_memory_images_and_device():
    model = MODELS['mask-rcnn']
    assert choose_batch(model, 448, CPU, 100)[0] == 4
    assert choose_batch(model, 448, CPU, 3)[0] == 2
    assert choose_batch(model, 640, GPU, 1000)[0] > 4
    assert choose_batch(model, 832, dataclasses.replace(CPU, memory=3 * 2**30), 100)[0] == 1
    assert choose_length(model, 13, 4, CPU)[0] == 250
    assert choose_length(model, 5000, 4, CPU)[0] == 1500
    assert choose_length(model, 5000, 4, GPU)[0] == 15000


def test_options_replace_the_decisions(tmp_path):
    found = drawn_set(tmp_path, 20)
    plan = make_plan(found, Choices(model='tiny', image_size=96, batch=2, iters=7, val_fraction=0.5, seed=3), CPU)
    assert (plan.size.image_size, plan.batch, plan.steps, plan.choices.seed) == (96, 2, 7, 3)
    assert len(plan.splits.val) == 10 and plan.evaluations == 4
    assert make_plan(found, Choices(model='tiny', batch=4, epochs=3), CPU).steps == 12


def test_rare_classes_are_named(tmp_path):
    found = drawn_set(tmp_path, 12)
    found.classes = [*CLASSES, 'unused']
    assert 'few or none to train on' in _line(make_plan(found, TINY, CPU), 'classes')
    assert 'unused (0)' in _line(make_plan(found, TINY, CPU), 'classes')
    assert make_plan(found, TINY, CPU).classes == [*CLASSES, 'unused']


def test_a_server_that_answers_offers_the_weights(tmp_path, monkeypatch):
    import http.server
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        code = 200

        def do_HEAD(self):
            self.send_response(self.code)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv('VITDET_MIRROR', f'http://127.0.0.1:{server.server_port}')
    monkeypatch.setenv('VITDET_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    try:
        for code, is_found in ((200, True), (405, True), (404, False)):
            Handler.code = code
            found, where = locate_weights('dinov2_s14')
            assert found is is_found and f'127.0.0.1:{server.server_port}' in where
    finally:
        server.shutdown()
        server.server_close()
    (tmp_path / 'cache').mkdir()
    monkeypatch.setattr('vitdet_plugin.datasets.own_data.models.present_file', lambda name: tmp_path / name)
    assert locate_weights('dinov2_s14') == (True, str(tmp_path / 'dinov2_s14'))


def test_classes_that_differ_in_case_only_are_named(tmp_path):
    source = drawn_set(tmp_path, 8)
    source.classes = ['Cat', 'cat']
    for image in source.images:
        for each in image.objects:
            each.name = source.classes[CLASSES.index(each.name)]
    assert 'Cat, cat differ in upper and lower case only' in _line(make_plan(source, Choices(), CPU), '')
    others = describe_plan(make_plan(drawn_set(tmp_path / 'b', 8), Choices(), CPU))
    assert not any('lower case' in text for _, text in others)


@pytest.mark.parametrize('epochs', [1, 2, 5])
def test_the_epochs_of_a_classifier_are_those_of_the_user(tmp_path, epochs):
    plan = make_plan(class_set(tmp_path, 9), Choices(model='tiny', batch=4, epochs=epochs), CPU)
    assert len(plan.splits.train) % 4 and plan.epochs == epochs
    assert _line(plan, 'length').startswith(f'{counted(epochs, "epoch")} of {plan.steps_of_epoch} steps')


def test_classes_that_a_split_lacks_are_named(tmp_path):
    found = class_set(tmp_path, 9)
    for image in found.images:
        image.split = 'val' if image.label == CLASSES[0] and image.path.name < '3' else 'train'
    plan = make_plan(found, TINY, CPU)
    assert ('', f'no image of the val split has {CLASSES[1]}') in describe_plan(plan)
    assert not any('of the train split' in text for _, text in describe_plan(plan))
