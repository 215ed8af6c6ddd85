"""Files of VoTT written by hand."""

from tests.datasets.formats.reading import CAT, DOG, assert_objects, read, write, write_image

CORNERS = [(50.5, 30.25), (90.5, 30.25), (90.5, 70.25), (50.5, 70.25)]


def rectangle(name, box, **more):
    x1, y1, x2, y2 = box
    return dict(id='r', type='RECTANGLE', tags=[name], points=[],
                boundingBox=dict(left=x1, top=y1, width=x2 - x1, height=y2 - y1), **more)


def asset(number, *regions, name='a.jpg', state=2, **more):
    return dict(asset=dict(id=f'{number:032x}', name=name, path=f'file:C:/Meine%20Bilder/{name}', state=state, type=1,
                           size=dict(width=100, height=80), **more), regions=list(regions), version='2.2.0')


def test_an_export_next_to_the_files_of_the_project(tmp_path):
    polygon = dict(type='POLYGON', tags=['dog'], points=[dict(x=x, y=y) for x, y in CORNERS])
    listed = [asset(0, rectangle(*CAT), polygon), asset(1, name='b ü.jpg', state=1), asset(2, name='c.jpg', state=0)]
    for each in listed:
        write_image(tmp_path / 'source' / each['asset']['name'])
        write(tmp_path / 'target' / f'{each["asset"]["id"]}-asset.json', each)
    write(tmp_path / 'target/vott-json-export/x-export.json', dict(
        name='x', tags=[dict(name=name, color='#fff') for name in ('dog', 'unused', 'cat')],
        assets={each['asset']['id']: each for each in listed}))
    write(tmp_path / 'target/x.vott', dict(name='x', assets={each['asset']['id']: each['asset'] for each in listed}))
    found = read(tmp_path, 'vott')
    assert_objects(found, tmp_path, {'source/a.jpg': [CAT, DOG], 'source/b ü.jpg': []})
    assert found.classes == ['dog', 'cat'] and not found.problems
    assert found.images[0].objects[1].mask and not found.images[0].objects[0].mask
    assert any(note.startswith('3 files of single images') for note in found.notes)
    assert any(note.startswith('1 images were not looked at') for note in found.notes)


def test_files_of_a_project_and_faults(tmp_path):
    write_image(tmp_path / 'a.jpg')
    write_image(tmp_path / 'clip.mp4#t=3.5.jpg')
    write(tmp_path / '0-asset.json', asset(
        0, rectangle(*CAT), rectangle('cat', (1, 1, 5, 5)) | dict(tags=['cat', 'dog']),
        rectangle('cat', (1, 1, 5, 5)) | dict(tags=[]), dict(type='POINT', tags=['cat'], points=[dict(x=1, y=2)]),
        dict(type='RECTANGLE', tags=['cat'], boundingBox=dict(left=1)), None))
    write(tmp_path / '1-asset.json', asset(1, rectangle(*DOG), name='clip.mp4#t=3.5', format='mp4'))
    found = read(tmp_path, 'vott')
    assert_objects(found, tmp_path, {'a.jpg': [CAT], 'clip.mp4#t=3.5.jpg': [DOG]})
    words = ('several tags', 'without a class name', 'type POINT', 'without top', 'not a region')
    assert len(found.problems) == len(words)
    assert all(word in str(problem) for word, problem in zip(words, found.problems))


def test_version_1_states_the_size_of_the_displayed_image(tmp_path):
    """The image was shown at half its size."""
    write_image(tmp_path / 'bilder/a.jpg')
    x1, y1, x2, y2 = CAT[1]
    write(tmp_path / 'bilder.json', dict(
        frames={'a.jpg': [dict(x1=x1 / 2, y1=y1 / 2, x2=x2 / 2, y2=y2 / 2, width=50, height=40, tags=['cat'],
                               type='Rectangle', id=0, name=1)]}, framerate='1', inputTags='cat'))
    found = read(tmp_path, 'vott')
    assert_objects(found, tmp_path, {'bilder/a.jpg': [CAT]})
    assert not found.problems
