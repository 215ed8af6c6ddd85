"""VIA 3: projects with a list of files, views, and regions as lists of numbers."""

from tests.datasets.formats.known_pixels import near, objects_of, read, texts, write_image, write_json


def project(*metadata, attribute=None, **more):
    options = {'0': 'cat', '1': 'dog'}
    return dict(project=dict(pname='x'), config={}, attribute=attribute if attribute is not None else {
        '1': dict(aname='animal', anchor_id='FILE1_Z0_XY1', type=4, options=options)},
        file={'1': dict(fid='1', fname='a.jpg', type=2, loc=1, src='')}, view={'1': dict(fid_list=['1'])},
        metadata={f'1_{i}': dict(vid='1', flg=0, z=[], **each) for i, each in enumerate(metadata)}, **more)


def test_shapes(tmp_path):
    write_image(tmp_path / 'a.jpg')
    cat, dog = dict(av={'1': '0'}), dict(av={'1': '1'})
    write_json(tmp_path / 'via_project.json', project(
        dict(xy=[2, 10, 20, 30, 40], **cat), dict(xy=[7, 10, 10, 90, 10, 90, 60], **dog),
        dict(xy=[3, 100, 80, 20], **cat), dict(xy=[4, 100, 80, 40, 20], **dog)))
    found = read(tmp_path, 'via')
    assert [each.name for each in objects_of(found)] == ['cat', 'dog', 'cat', 'dog'] and not found.problems
    boxes = (10, 20, 40, 60), (10, 10, 90, 60), (80, 60, 120, 100), (60, 60, 140, 100)
    for each, box in zip(objects_of(found), boxes):
        assert near(each.box, box, 0.1)
    assert objects_of(found)[1].mask == [[10, 10, 90, 10, 90, 60]]


def test_faults_and_images_without_regions(tmp_path):
    write_image(tmp_path / 'a.jpg')
    content = project(dict(xy=[1, 10, 20], av={'1': '0'}), dict(xy=[2, 1, 2, 3], av={'1': '0'}),
                      dict(xy=[2, 10, 20, 30, 40], av={}), dict(xy='x', av={'1': '0'}),
                      dict(xy=[2, 10, 20, 30, 40], av={'1': '1'}))
    content['file']['2'] = dict(fid='2', fname='gone.jpg', type=2)
    content['view']['2'] = dict(fid_list=['2'])
    write_json(tmp_path / 'p.json', content)
    found = read(tmp_path, 'via')
    assert [each.name for each in objects_of(found)] == ['dog']
    parts = ('a point is not converted', 'a rect without height', 'no value of the attribute',
             'without the name of its shape', 'gone.jpg')
    for part, text in zip(parts, texts(found), strict=True):
        assert part in text


def test_labels_of_images(tmp_path):
    for name in 'ab':
        write_image(tmp_path / f'{name}.jpg')
    content = project(dict(xy=[], av={'1': '0'}))
    content['file']['2'] = dict(fid='2', fname='b.jpg', type=2)
    content['view']['2'] = dict(fid_list=['2'])
    content['metadata']['2_x'] = dict(vid='2', xy=[], z=[], av={'1': '1'})
    write_json(tmp_path / 'p.json', content)
    found = read(tmp_path, 'via')
    assert [(image.path.name, image.label) for image in found.images] == [('a.jpg', 'cat'), ('b.jpg', 'dog')]
