"""Manifests of SageMaker Ground Truth written by hand."""

import json

from tests.datasets.formats.reading import CAT, DOG, assert_objects, read, recognized, write, write_image


def boxes(*objects, size=(100, 80), names=('cat', 'dog')):
    listed = [dict(class_id=names.index(name) if name in names else 7, left=x1, top=y1, width=x2 - x1, height=y2 - y1)
              for name, (x1, y1, x2, y2) in objects]
    return {'job': dict(annotations=listed, image_size=[dict(width=size[0], height=size[1], depth=3)]),
            'job-metadata': {'class-map': {str(i): name for i, name in enumerate(names)}, 'human-annotated': 'yes',
                             'type': 'groundtruth/object-detection', 'job-name': 'labeling-job/job'}}


def manifest(path, **labels):
    write(path, ''.join(json.dumps({'source-ref': f's3://bucket/input images/{name}.jpg', **label}) + '\n'
                        for name, label in labels.items()))


def test_boxes(tmp_path):
    for name in 'ab':
        write_image(tmp_path / f'input images/{name}.jpg')
    write_image(tmp_path / 'input images/c.jpg', (50, 40))
    manifest(tmp_path / 'output.manifest', a=boxes(CAT, DOG), b=boxes(), c=boxes(CAT))
    manifest(tmp_path / 'input.manifest', a={}, b={})
    found = read(tmp_path, 'ground-truth')
    assert_objects(found, tmp_path, {'input images/a.jpg': [CAT, DOG], 'input images/b.jpg': [],
                                     'input images/c.jpg': [('cat', (5, 10, 20, 30))]})
    assert found.classes == ['cat', 'dog'] and not found.problems


def test_classes_of_images(tmp_path):
    for name in 'abc':
        write_image(tmp_path / f'{name}.jpg')
    label = {'job': 0, 'job-metadata': {'class-name': 'cat', 'confidence': 1}}
    several = {'job': [0, 1], 'job-metadata': {'class-map': {'0': 'cat', '1': 'dog'}}}
    manifest(tmp_path / 'a.manifest', a=label, b={**label, 'job-metadata': {'class-name': 'dog'}}, c=several)
    found = read(tmp_path, 'ground-truth')
    assert [(image.path.name, image.label) for image in found.images] == [('a.jpg', 'cat'), ('b.jpg', 'dog')]
    assert 'a.manifest:3: c.jpg has 2 labels (cat, dog)' in str(found.problems[0])


def test_what_cannot_be_converted_is_a_problem(tmp_path):
    write_image(tmp_path / 'a.jpg')
    wrong = boxes(CAT, ('cow', CAT[1]))
    wrong['job']['annotations'] += [None, dict(class_id=0, left='x', top=1, width=2, height=3)]
    manifest(tmp_path / 'a.manifest', a=wrong, gone=boxes(CAT))
    write(tmp_path / 'a.manifest', (tmp_path / 'a.manifest').read_text() + '{"source-ref": 3}\nno json\n')
    found = read(tmp_path, 'ground-truth')
    assert_objects(found, tmp_path, {'a.jpg': [CAT]})
    assert [problem.line for problem in found.problems] == [1, 1, 1, 2, 3, 4]
    assert 'class_id 7 is not in "class-map"' in str(found.problems[0])
    assert 'its 1 objects' in str(found.problems[3])


def test_input_manifests_are_not_recognized(tmp_path):
    write_image(tmp_path / 'a.jpg')
    manifest(tmp_path / 'dataset.manifest', a={})
    assert recognized(tmp_path) == []


def test_the_numbers_of_the_class_map_order_the_classes(tmp_path):
    write_image(tmp_path / 'a.jpg')
    entry = {'source-ref': 's3://b/a.jpg', 'job-metadata': {'class-map': {'0': 'zebra', '1': 'ant, red'}}, 'job': dict(
        annotations=[dict(class_id=1, left=10, top=20, width=30, height=40)],
        image_size=[dict(width=100, height=80, depth=3)])}
    write(tmp_path / 'output.manifest', json.dumps(entry) + '\n')
    assert read(tmp_path, 'ground-truth').classes == ['zebra', 'ant, red']
