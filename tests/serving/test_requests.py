"""Requests to the application: results, thresholds, wrong files, limits, wrong options."""

import io
import json
import tempfile

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from tests.serving.conftest import image_bytes, make_client
from vitdet_plugin.serving import service

EVERYTHING = dict(params=dict(threshold=0.05))


def post(client, content, **options):
    return client.post('/predict', files=dict(file=('a/fruit.png', content)), **options)


def same(record, found):
    assert np.allclose(record['boxes'], found.boxes, atol=1e-3) and len(found) > 0
    assert np.allclose(record['scores'], found.scores, atol=1e-5)
    assert (record['names'], record['masks']) == (found.names, found.rles)


def test_a_form_and_plain_bytes_give_the_results_of_predict(detector_client, detector):
    content = image_bytes()
    found, = detector.predict(content, 0.05)
    record = post(detector_client, content, **EVERYTHING).json()
    same(record, found)
    assert (record['path'], record['width'], record['height']) == ('fruit.png', 100, 60)
    plain = detector_client.post('/predict?threshold=0.05', content=content, headers={'Content-Type': 'image/png'})
    assert plain.json() == {**record, 'path': 'image'}
    assert detector_client.post('/predict?threshold=0.05', content=content).json() == plain.json()


def test_threshold(detector_client, detector):
    content = image_bytes()
    scores = np.array(post(detector_client, content, **EVERYTHING).json()['scores'])
    middle = float(np.median(scores))
    record = post(detector_client, content, data=dict(threshold=str(middle))).json()  # a field of the form
    assert 0 < len(record['scores']) < len(scores) and min(record['scores']) >= middle
    assert len(post(detector_client, content).json()['scores']) == (scores >= 0.3).sum()


def test_coco_can_be_loaded(detector_client, tmp_path):
    content = post(detector_client, image_bytes(), params=dict(threshold=0.05, format='coco')).json()
    (tmp_path / 'a.json').write_text(json.dumps(content))
    coco = COCO(tmp_path / 'a.json')
    assert [each['name'] for each in coco.loadCats(coco.getCatIds())] == ['red apple', 'lime', 'plum']
    annotation = coco.loadAnns(coco.getAnnIds())[0]
    assert coco.annToMask(annotation).sum() == annotation['area'] and annotation['score'] >= 0.05


def test_drawn_image(detector_client, classifier_client):
    for client in (detector_client, classifier_client):
        answer = post(client, image_bytes(), params=dict(format='image', threshold=0.05))
        assert answer.headers['content-type'] == 'image/jpeg'
        assert Image.open(io.BytesIO(answer.content)).size[0] >= 500


def test_classifier(classifier_client, classifier):
    content = image_bytes()
    found, = classifier.predict(content)
    record = post(classifier_client, content, params=dict(top=2)).json()
    assert record['names'] == found.names[:2] and record['scores'] == pytest.approx(found.scores[:2].tolist())
    answer = post(classifier_client, content, params=dict(format='coco'))
    assert (answer.status_code, answer.json()['error']) == (
        400, "format 'coco' is for detectors, and this model is a classifier; choose from json, image")


def test_info_and_health(detector_client, classifier_client):
    info = detector_client.get('/info').json()
    assert (info['task'], info['model'], info['name']) == ('segment', 'MaskRCNN, ViTDet', 'fruit')
    assert info['classes'] == ['red apple', 'lime', 'plum'] and len(info['input_size']) == 2
    assert classifier_client.get('/info').json()['task'] == 'classify'
    assert detector_client.get('/health').json() == dict(status='ok')
    assert detector_client.head('/health').status_code == 200


def test_an_exif_rotated_image_gives_results_of_the_displayed_image(detector_client, detector, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = image_bytes('JPEG', exif=exif)
    record = post(detector_client, content, **EVERYTHING).json()
    assert (record['width'], record['height']) == (60, 100)
    (tmp_path / 'a.jpg').write_bytes(content)
    same(record, detector.predict(tmp_path / 'a.jpg', 0.05)[0])
    preview = detector_client.post('/preview', content=content)
    assert Image.open(io.BytesIO(preview.content)).size == (60, 100)


def test_16_bits_and_gray(detector_client, detector, tmp_path):
    for number, array in enumerate([np.arange(6000, dtype=np.uint16).reshape(60, 100) * 10,
                                    np.random.default_rng(0).integers(0, 65535, (60, 100, 3), dtype=np.uint16)]):
        path = tmp_path / f'{number}.png'
        cv2.imwrite(str(path), array)
        same(post(detector_client, path.read_bytes(), **EVERYTHING).json(), detector.predict(path, 0.05)[0])


def gif(frames):
    file = io.BytesIO()
    images = [Image.new('RGB', (20, 20), (90 * number, 0, 0)) for number in range(frames)]
    images[0].save(file, 'GIF', save_all=True, append_images=images[1:])
    return file.getvalue()


HEIC = b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(100)
BIG = image_bytes(size=(2000, 1100))


@pytest.mark.parametrize(('content', 'status', 'message'), [
    (b'', 400, 'the uploaded file is empty; upload an image'),
    (b'name,score\n', 415, 'the file is not an image in a known format; upload JPEG, PNG, WebP, BMP, TIFF'),
    (image_bytes('JPEG')[:300], 400, 'the header of the image is damaged (Truncated File Read); upload another file'),
    (image_bytes('JPEG')[:-200], 400, 'the JPEG image cannot be decoded: it ends early or is damaged; upload '
     'the complete file'),
    (image_bytes('PNG', (300, 300))[:-40], 400, 'the PNG image cannot be decoded: it ends early or is damaged; upload '
     'the complete file'),
    (image_bytes('JPEG')[:3], 415, 'the file is not an image in a known format; upload JPEG, PNG, WebP, BMP, TIFF'),
    (gif(3), 415, 'the GIF file has several frames; upload one of them as an image'),
    (cv2.imencode('.tiff', np.zeros((9, 9), np.float32))[1].tobytes(), 415, 'the TIFF file has 32 bits per value; '
     'upload an image with 8 or 16 bits'),
    (HEIC, 415, 'HEIC images are not supported; convert the image to JPEG or PNG'),
    (b'%PDF-1.7\n' + bytes(50), 415, 'a PDF file is not an image; upload a page of it as PNG or JPEG'),
    (BIG, 413, 'the image has 2000 x 1100 pixels, more than 2 million; upload a smaller one'),
    (bytes(4 * 10**6 + 1), 413, 'the image file is larger than 4 MB; upload a smaller one, or start the server '
     'with a larger --max-mb'),
    (bytes(4 * 10**6), 415, 'the file is not an image in a known format; upload JPEG, PNG, WebP, BMP, TIFF'),
], ids=['empty', 'text', 'jpeg header', 'cut jpeg', 'cut png', 'three bytes', 'gif', 'float', 'heic', 'pdf', 'pixels',
        'bytes', 'as many bytes as allowed'])
def test_a_wrong_file_is_one_line(detector_client, content, status, message):
    answer = post(detector_client, content)
    assert (answer.status_code, answer.json()) == (status, dict(error=message))


@pytest.mark.parametrize(('arguments', 'status', 'message'), [
    (dict(params=dict(threshold='high')), 400, "threshold 'high': give a number from 0 to 1"),
    (dict(params=dict(threshold='nan')), 400, "threshold 'nan': give a number from 0 to 1"),
    (dict(data=dict(thresold='0.2')), 400, "option 'thresold' is unknown (did you mean threshold?); options are "
     'threshold, format, top'),
    (dict(params=dict(format='xml')), 400, "format 'xml' is unknown; choose from json, coco, image"),
    (dict(params=dict(top='0')), 400, "top '0': give a number of classes, such as 5"),
    (dict(files=[('a', b'x'), ('b', b'y')]), 400, 'the form has 2 files; send one image in the field "file"'),
    (dict(files={}, data=dict(file='a.jpg'), headers={'Content-Type': 'multipart/form-data'}), 400, 'the form cannot'),
    (dict(files={}, json={}), 415, 'content type application/json is not an image; send an image file as'),
    (dict(files={}), 400, 'the request has no image; send an image file as multipart/form-data'),
    (dict(headers=dict(host='attacker.com')), 403, 'the name attacker.com is not allowed; start the server with'),
    (dict(headers=dict(origin='http://attacker.com')), 403, 'pages of other sites may not use this server'),
    (dict(headers=dict(origin='null')), 403, 'pages of other sites may not use this server'),
    (dict(headers={'sec-fetch-site': 'cross-site'}), 403, 'pages of other sites may not use this server'),
])
def test_a_wrong_request_is_one_line(detector_client, arguments, status, message):
    answer = detector_client.post('/predict', **{'files': dict(file=image_bytes()), **arguments})
    assert (answer.status_code, answer.json()['error'][:len(message)]) == (status, message)
    assert '\n' not in answer.json()['error']


def test_addresses(detector_client):
    answer = detector_client.get('/predict')
    assert (answer.status_code, answer.headers['allow']) == (405, 'POST')
    assert answer.json() == dict(error='GET is not possible for /predict; use POST')
    assert detector_client.options('/predict').status_code == 405
    assert detector_client.get('/static/../app.py').status_code == 404
    assert detector_client.get('/docs').json()['error'].startswith('/docs does not exist; use POST /predict')


@pytest.mark.parametrize('host', ['localhost:8000', '127.0.0.1', '192.168.1.7:80', '[::1]:8000', 'my.name',
                                  'MY.Name:1'])
def test_names_of_this_server_and_its_own_page_are_allowed(classifier, host):
    client = make_client(classifier, hosts=('my.name',))
    answer = client.get('/health', headers=dict(host=host, origin=f'http://{host}'))
    assert answer.status_code == 200 and 'access-control-allow-origin' not in answer.headers
    assert answer.headers['cross-origin-resource-policy'] == 'same-origin'


def test_uploads_are_not_written_to_disk(detector_client, monkeypatch):
    def fail(file):
        raise AssertionError('written to disk')
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, 'rollover', fail)
    noise = np.random.default_rng(0).integers(0, 255, (800, 1000, 3), dtype=np.uint8)
    content = cv2.imencode('.png', noise)[1].tobytes()
    assert len(content) > 2e6 and post(detector_client, content).status_code == 200


def test_errors_of_the_program_are_one_line(detector_client, monkeypatch, capsys):
    def fail(*words):
        raise ValueError('one\ntwo')
    monkeypatch.setattr(service, 'decode_upload', fail)
    answer = post(detector_client, image_bytes())
    assert (answer.status_code, answer.json()['error']) == (
        500, 'the prediction failed (ValueError); the server printed the reason')
    assert capsys.readouterr().err == ('error: a prediction failed (ValueError: one two); VITDET_DEBUG=1 shows the '
                                       'traceback\n')


def test_too_many_requests_at_once(detector_client, monkeypatch):
    monkeypatch.setattr(service, 'MOST_REQUESTS', 0)
    answer = post(detector_client, image_bytes())
    assert (answer.status_code, answer.json()['error']) == (503, '0 requests are waiting; try again later')
