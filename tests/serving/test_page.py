"""The page in Chromium: a real upload, the slider, dropping, downloads, errors, and nothing from other servers."""

import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.browser import Page, find_chromium
from tests.serving.conftest import image_bytes, running_server

pytest.importorskip('uvicorn', reason='the extra "web" is not installed')
pytestmark = pytest.mark.skipif(find_chromium() is None, reason='no Chromium is installed')

RESULT = 'document.body.classList.contains("has-result")'
SUMMARY = 'document.getElementById("summary").textContent'
ERROR = 'document.getElementById("error").hidden ? "" : document.getElementById("error").textContent'
CANVAS = '[document.getElementById("canvas").width, document.getElementById("canvas").height]'
PIXELS = """(() => {const c = document.getElementById("canvas");
             return c.toDataURL().length + c.toDataURL().slice(-300)})()"""


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('page')
    (folder / 'fruit.png').write_bytes(image_bytes())
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder / 'turned.jpg').write_bytes(image_bytes('JPEG', exif=exif))
    exif[0x0112] = 3
    for name in ('half.png', 'half.webp', 'half.jpg'):
        kind = {'png': 'PNG', 'webp': 'WEBP', 'jpg': 'JPEG'}[name.partition('.')[2]]
        (folder / name).write_bytes(image_bytes(kind, exif=exif))
    (folder / 'fruit.tif').write_bytes(image_bytes('TIFF', (64, 90)))
    (folder / 'text.png').write_text('not an image')
    return folder


@pytest.fixture(scope='module')
def page(detector, tmp_path_factory):
    with running_server(detector, score_thr=0.2) as url, Page(tmp_path_factory.mktemp('profile')) as opened:
        opened.url = url
        yield opened


@pytest.fixture(autouse=True)
def fresh(page):
    page.resize(1280, 800)
    page.open(page.url)
    page.wait('document.getElementById("name").textContent === "fruit"')
    yield
    assert page.messages == [] or all('status of 4' in message for message in page.messages)
    page.messages.clear()


def rows(page):
    return page.run('document.querySelectorAll("tbody tr").length')


def move_slider(page, value):
    page.run(f'(() => {{const s = document.getElementById("threshold"); s.value = {value}; '
             's.dispatchEvent(new Event("input")); return new Promise(requestAnimationFrame)})()')


def test_upload_and_slider(page, files, detector, tmp_path):
    found, = detector.predict(files / 'fruit.png', 0.05)
    page.choose_files('#file', files / 'fruit.png')
    page.wait(RESULT)
    assert rows(page) == (found.scores >= 0.2).sum()
    assert page.run(CANVAS) == [1600, 960]
    sent, before = len(page.requests), page.run(PIXELS)
    threshold = round(float(np.sort(found.scores)[-3]) - 0.005, 2)
    move_slider(page, threshold)
    kept = int((found.scores >= threshold).sum())
    assert 0 < kept < len(found)
    assert rows(page) == kept and page.run(SUMMARY).startswith(f'{kept} object')
    assert page.run('document.querySelector("td").textContent') == found.names[0]
    assert page.run(PIXELS) != before and len(page.requests) == sent  # no new prediction
    move_slider(page, 1)
    assert page.run(SUMMARY) == 'No objects with this score. Move the slider to the left.'
    page.screenshot(tmp_path / 'page.png')
    assert Image.open(tmp_path / 'page.png').size == (1280, 800)


def test_masks_are_those_of_the_server(page, files, detector):
    """The page decodes RLE itself: the number of pixels and the corner of every mask."""
    found, = detector.predict(files / 'fruit.png', 0.05)
    page.run(f'window.rles = {json.dumps(found.rles)}')
    drawn = page.run("""import("/static/masks.js").then(({maskImage}) => rles.map((rle) => {
        const mask = maskImage(rle, "#102030");
        if (!mask) return [0, 0, 0];
        const {width, height} = mask.canvas, data = mask.canvas.getContext("2d").getImageData(0, 0, width, height).data;
        return [mask.x, mask.y, data.filter((value, index) => index % 4 === 3 && value > 0).length];}))""")
    expected = [[int(np.nonzero(mask)[1].min()), int(np.nonzero(mask)[0].min()), int(mask.sum())] if mask.any() else
                [0, 0, 0] for mask in found.masks]
    assert len(drawn) > 3 and drawn == expected


def test_downloads(page, files, tmp_path):
    page.download_to(tmp_path)
    page.choose_files('#file', files / 'fruit.png')
    page.wait(RESULT)
    move_slider(page, 0.25)
    count = rows(page)
    for button, name in (('save-json', 'fruit_result.json'), ('save-image', 'fruit_result.png')):
        page.run(f'document.getElementById("{button}").click()')
        page.wait_for_file(tmp_path / name)
    content = json.loads((tmp_path / 'fruit_result.json').read_text())
    assert len(content['annotations']) == count > 0 and content['images'][0]['file_name'] == 'fruit.png'
    assert [each['name'] for each in content['categories']] == ['red apple', 'lime', 'plum']
    assert all(each['score'] >= 0.25 for each in content['annotations'])
    assert Image.open(tmp_path / 'fruit_result.png').size == (1600, 960)


def test_dropping_and_pasting(page, files):
    page.drop_files(300, 300, files / 'fruit.png', files / 'turned.jpg')
    page.wait(RESULT)
    assert page.run(ERROR) == 'Only fruit.png is shown, the first of 2 files.'
    page.open(page.url)
    page.wait('document.getElementById("name").textContent === "fruit"')
    text = ','.join(map(str, image_bytes()))
    page.run(f"""(() => {{const data = new DataTransfer();
        data.items.add(new File([new Uint8Array([{text}])], "pasted.png", {{type: "image/png"}}));
        dispatchEvent(new ClipboardEvent("paste", {{clipboardData: data}}))}})()""")
    page.wait(RESULT)


@pytest.mark.parametrize('name', ['fruit.png', 'turned.jpg', 'fruit.tif', 'half.png', 'half.webp', 'half.jpg'])
def test_the_image_is_shown_as_the_model_receives_it(page, files, detector, name):
    """Also where browsers turn an image and OpenCV does not, and where they cannot display it."""
    page.requests.clear()
    page.choose_files('#file', files / name)
    page.wait(RESULT)
    move_slider(page, 1)
    image = cv2.imdecode(np.frombuffer((files / name).read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    width, height = page.run(CANVAS)
    assert width / height == pytest.approx(image.shape[1] / image.shape[0], abs=0.01)
    x, y = width // 20, height // 12  # the center of the first of 10 x 6 blocks
    shown = page.run(f'[...document.getElementById("canvas").getContext("2d").getImageData({x}, {y}, 1, 1).data]')
    expected = image[y * image.shape[0] // height, x * image.shape[1] // width, ::-1]
    assert np.abs(np.array(shown[:3]) - expected).max() < 12
    assert any(url.endswith('/preview') for url in page.requests) == (name != 'fruit.png')


def test_errors_are_shown_and_the_result_stays(page, files, tmp_path):
    page.choose_files('#file', files / 'fruit.png')
    page.wait(RESULT)
    page.choose_files('#file', files / 'text.png')
    page.wait(ERROR)
    assert page.run(ERROR).startswith('the file is not an image in a known format')
    (tmp_path / 'large.png').write_bytes(bytes(21 * 10**6))
    page.choose_files('#file', tmp_path / 'large.png')
    page.wait(f'({ERROR}).startsWith("large.png has 21.0 MB; the limit is 20 MB.")')
    assert page.run(RESULT)


def test_a_narrow_window_needs_no_horizontal_scrolling(page, files):
    page.resize(400, 800)
    page.choose_files('#file', files / 'fruit.png')
    page.wait(RESULT)
    assert page.run('document.documentElement.scrollWidth') == 400


def test_nothing_is_loaded_from_other_servers(page):
    assert page.requests and all(url.startswith((page.url, 'blob:', 'about:')) for url in page.requests)


def test_a_classifier_shows_bars(classifier, files, tmp_path):
    (tmp_path / 'profile').mkdir()
    found, = classifier.predict(files / 'fruit.png')
    with running_server(classifier) as url, Page(tmp_path / 'profile') as page:
        page.open(url)
        page.wait('document.getElementById("name").textContent === "fruit"')
        page.choose_files('#file', files / 'fruit.png')
        page.wait(RESULT)
        names = page.run('[...document.querySelectorAll("#bars li span:first-child")].map((each) => each.textContent)')
        assert names == found.names
        assert page.run('document.getElementById("slider").hidden && document.getElementById("table").hidden')
        page.download_to(tmp_path)
        page.run('document.getElementById("save-image").click()')
        content = page.wait_for_file(tmp_path / 'fruit_result.jpg')
        assert Image.open(io.BytesIO(content)).size[0] > 500
