"""Streams of images: batches, lists, hidden files, URLs, cameras, videos, channels, precision."""

import io
import shutil
import sys
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tests.utils.file_server import ignore_proxies
from vitdet_plugin.api import Inferencer
from vitdet_plugin.engine import inference_precision
from vitdet_plugin.engine.image_sources import ImageStream
from vitdet_plugin.errors import UserError


def same(one, other, atol=1e-4):
    np.testing.assert_allclose(one.boxes, other.boxes, atol=atol)
    np.testing.assert_allclose(one.scores, other.scores, atol=atol)
    assert one.names == other.names and one.shape == other.shape


def test_batches_give_the_results_of_single_images_in_order(images, detector):
    singles = [detector.predict(path, 0)[0] for path in sorted(map(str, images.rglob('*.*g')))]
    sizes = []
    predict = detector._model._predict
    detector._model._predict = lambda packs, thr: sizes.append(len(packs)) or predict(packs, thr)
    try:
        for batch_size in (1, 2, 'auto'):
            found = list(detector.stream(images, batch_size, 0))
            assert [each.path for each in found] == [each.path for each in singles]
            for one, other in zip(found, singles):
                same(one, other)
    finally:
        del detector._model._predict
    assert sizes[:5] == [1] * 5 and sorted(sizes[5:8]) == [1, 2, 2] and sorted(sizes[8:]) == [2, 3]


def test_masks_are_rle_and_the_model_is_as_before(images, detector):
    found, = detector.predict(images / 'x/wide.png', 0)
    head = detector.model.roi_head
    assert not {'predict_mask'} & set(vars(head)) and '_predict_by_feat_single' not in vars(head.mask_head)
    assert head.test_cfg.score_thr == 0.01
    packed = detector._model.pack(None, detector._model.load(images / 'x/wide.png'))
    with torch.no_grad():
        sample = detector.model.test_step(dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]))[0]
    order = np.argsort(-sample.pred_instances.scores.numpy(), kind='stable')
    expected = sample.pred_instances.masks.numpy()[order]
    assert 0 < expected.mean() < 1 and (found.masks == expected).all()
    high, = detector.predict(images / 'x/wide.png', float(found.scores[3]))
    assert 1 < len(high) < len(found) and (high.masks == expected[:len(high)]).all()


def test_lists_name_what_is_wrong_and_hidden_files_are_left_out(images, detector, tmp_path, monkeypatch):
    shutil.copy(images / 'x/wide.png', tmp_path / 'a.png')
    shutil.copy(images / 'x/wide.png', tmp_path / '.hidden.png')
    lines = ['\ufeff# comment', '', 'a.png', 'none.png', str(images / 'y')]
    (tmp_path / 'list.txt').write_bytes('\r\n'.join(lines).encode())
    faults = []
    found = list(detector.predict_each(tmp_path / 'list.txt', on_fault=faults.append))
    assert [each.path for each in found] == [str(tmp_path / 'a.png'), str(images / 'y/wide.png')]
    assert faults == ['none.png does not exist; give an image or a folder of images']
    monkeypatch.setattr(sys, 'stdin', io.StringIO(f'{tmp_path}/a.png\n\n{tmp_path}/gone.png\n'))
    with pytest.warns(UserWarning, match=r'left out: .*gone.png does not exist'):
        assert len(detector.predict('-')) == 1
    with pytest.warns(UserWarning, match=r'\.hidden\.png is a hidden file'):
        assert [each.path for each in detector.predict(tmp_path)] == [str(tmp_path / 'a.png')]
    (tmp_path / '.hidden.png').rename(tmp_path / 'hidden.png')
    (tmp_path / '__MACOSX').mkdir()
    (tmp_path / '__MACOSX/._a.png').write_bytes(b'\x00\x05\x16\x07')
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        assert len(detector.predict(tmp_path)) == 2
    (tmp_path / 'hidden.png').rename(tmp_path / '.hidden.png')
    (tmp_path / 'images.zip').write_bytes(b'PK')
    with pytest.raises(UserError, match='images.zip is an archive; unpack it'):
        detector.predict(tmp_path / 'images.zip')
    assert len(detector.predict(tmp_path / '.hidden.png')) == 1


def test_channels_of_arrays(images, detector):
    bgr = cv2.imread(str(images / 'x/wide.png'))
    expected, = detector.predict(bgr, 0)
    same(detector.predict(bgr[..., ::-1], 0, channels='rgb')[0], expected)
    assert np.abs(detector.predict(bgr[..., ::-1], 0)[0].scores - expected.scores).max() > 1e-4
    with pytest.raises(UserError, match="channels='gbr': choose from bgr, rgb"):
        detector.predict(bgr, channels='gbr')


def test_images_on_a_web_server(images, detector, monkeypatch):
    ignore_proxies(monkeypatch)
    content = (images / 'x/wide.png').read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            is_there = self.path.startswith('/my%20image.png')
            self.send_response(200 if is_there else 404)
            self.end_headers()
            self.wfile.write(content if is_there else b'')

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}'
        found, = detector.predict(f'{url}/my image.png?size=1', 0)
        with pytest.raises(UserError, match=r'none.jpg cannot be downloaded \(status 404'):
            detector.predict(f'{url}/none.jpg')
        server.shutdown()
    same(found, detector.predict(images / 'x/wide.png', 0)[0])
    assert found.path == f'{url}/my image.png?size=1'


class Camera:
    """A camera with three frames."""

    def __init__(self, name):
        self.name, self.left = name, 3 if name == 0 else 0

    def isOpened(self):
        return self.left > 0

    def get(self, key):
        return 0.0

    def read(self):
        self.left -= 1
        return self.left >= 0, np.full((48, 64, 3), 40 * max(self.left, 0), np.uint8)

    def release(self):
        pass


def test_a_camera_is_predicted_frame_by_frame(detector, monkeypatch):
    monkeypatch.setattr(cv2, 'VideoCapture', Camera)
    found = list(detector.stream('camera:0'))
    assert [(each.path, each.frame) for each in found] == [('camera:0', 0), ('camera:0', 1), ('camera:0', 2)]
    assert ImageStream(['camera:0']).total is None
    with pytest.raises(UserError, match='camera:7 cannot be opened'):
        detector.predict('camera:7')


def test_a_drawn_video_has_all_frames(detector, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / 'clip.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 5, (64, 48))
    for level in (40, 120, 200):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    assert ImageStream(tmp_path / 'clip.avi').total == 3
    found = detector.predict(tmp_path / 'clip.avi', out_dir=tmp_path / 'out', score_thr=0.99)
    assert [each.frame for each in found] == [0, 1, 2]
    drawn, = (tmp_path / 'out').glob('clip.*')
    assert drawn.stem == 'clip' and drawn.suffix in ('.mp4', '.avi')
    capture = cv2.VideoCapture(str(drawn))
    means = []
    while (frame := capture.read())[0]:
        means.append(frame[1].mean())
    assert means == pytest.approx([40, 120, 200], abs=12) and capture.get(cv2.CAP_PROP_FPS) == pytest.approx(5)


def test_half_precision(images, run_folder, detector, monkeypatch, capsys):
    for has_bf16, half, atol, line in ((True, True, 0.05, ''), (False, 'bf16', 1e-6, 'predicting in float32'),
                                       (True, 'fp16', 0.05, 'predicting in bfloat16')):
        monkeypatch.setattr(inference_precision, 'has_fast_bf16', lambda value=has_bf16: value)
        found, = Inferencer.load(run_folder, device='cpu', half=half).predict(images / 'x/wide.png', 0)
        np.testing.assert_allclose(found.scores, detector.predict(images / 'x/wide.png', 0)[0].scores[:len(found)],
                                   atol=atol)
        errors = capsys.readouterr().err
        assert line in errors and errors.count('\n') == bool(line)
    with pytest.raises(UserError, match='--half fp8: choose from auto, fp16, bf16'):
        Inferencer.load(run_folder, device='cpu', half='fp8')


def test_a_batch_that_does_not_fit_is_divided(images, detector, monkeypatch, capsys):
    predict = detector._model._predict

    def with_little_memory(packs, thr):
        if len(packs) > 1:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return predict(packs, thr)

    monkeypatch.setattr(detector._model, '_predict', with_little_memory)
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda: None)
    assert len(list(detector.stream(images / 'set', 3))) == 3
    assert 'a batch of 3 images does not fit into the memory of the GPU' in capsys.readouterr().err
    detector._model._limit = None


def test_tiles_of_a_large_image(images, detector):
    small = cv2.imread(str(images / 'set/images/001.jpg'))
    large = np.concatenate([np.concatenate([small] * 3, 1)] * 2)
    found, = detector.predict(large, 0, tile=64, overlap=0)
    tile, = detector.predict(small, 0)
    assert found.shape == (128, 192) and (found.boxes[:, 2] <= 192).all() and found.masks.shape[1:] == (128, 192)
    assert len(found) > len(tile) and found.boxes.max() > 128
    for box, mask in zip(found.boxes.round().astype(int), found.masks):
        outside = mask.copy()
        outside[max(box[1] - 2, 0):box[3] + 2, max(box[0] - 2, 0):box[2] + 2] = False
        assert not outside.any()
    same(detector.predict(small, 0, tile=64)[0], tile)


def test_results_for_other_programs(images, detector):
    found, = detector.predict(images / 'x/wide.png', 0)
    records = found.to_coco(7, category_ids=[10, 20, 30])
    assert {each['category_id'] for each in records} <= {10, 20, 30} and records[0]['image_id'] == 7
    assert records[0]['segmentation'] == found.rles[0] and len(found.to_yolo()) == len(found)


@pytest.mark.parametrize('threshold', ['a', None, -0.1, 2, float('nan')])
def test_thresholds_that_are_no_scores(detector, threshold):
    with pytest.raises(UserError, match=f'score_thr={threshold!r}: give a number from 0 to 1'):
        detector.predict(np.zeros((32, 32, 3), np.uint8), threshold)


def test_files_of_16_bits_are_named_once(detector, tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 4096, (40, 60, 3)).astype(np.uint16)
    for name, values in (('a.png', pixels * 16), ('b.png', pixels), ('c.png', pixels), ('d.png', pixels // 16)):
        cv2.imwrite(str(tmp_path / name), values if name < 'd' else values.astype(np.uint8))
    assert len(detector.predict(tmp_path)) == 4
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and 'a.png has more than 8 bits' in lines[0] and 'b.png has more than 8 bits' in lines[1]
    assert 'are read as 0 to 15, nearly black; scale the values to 8 bits' in lines[1]


@pytest.mark.parametrize('suffix', ['tif', 'gif', 'webp'])
def test_a_file_of_several_frames_is_named_once(detector, tmp_path, capsys, suffix):
    random = np.random.default_rng(0)
    frames = [Image.fromarray(random.integers(0, 255, (40, 60, 3), np.uint8)) for _ in range(3)]
    for name in 'bc':
        frames[0].save(tmp_path / f'{name}.{suffix}', save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / f'a.{suffix}')
    assert len(detector.predict(tmp_path)) == 3
    line, = capsys.readouterr().err.splitlines()
    assert f'b.{suffix} has several pages or frames, of which the first is predicted' in line


def test_the_reason_of_an_unreadable_file(detector, tmp_path):
    for content, reason in ((b'', 'the file is empty'), (b'abc', 'the file has no known image format')):
        (tmp_path / 'a.png').write_bytes(content)
        with pytest.raises(UserError, match=rf'a\.png cannot be read as an image \({reason}\); replace it'):
            detector.predict(tmp_path / 'a.png')
