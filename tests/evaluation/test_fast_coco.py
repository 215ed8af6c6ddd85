"""faster-coco-eval compared with pycocotools: equal to 1e-9 on published data and on edge cases."""

import contextlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

PARITY = Path(__file__).resolve().parents[2].parent / 'shared' / 'data' / 'cocoapi_parity'


def stats(package, truth, found, kind):
    """Return the twelve COCO metrics computed by 'pycocotools' or 'faster_coco_eval'."""
    if package == 'pycocotools':
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval as Evaluation
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as Evaluation
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO()
        api.dataset = json.loads(json.dumps(truth))
        api.createIndex()
        evaluation = Evaluation(api, api.loadRes(json.loads(json.dumps(found))), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats[:12], dtype=float)


def compare(truth, found, kind):
    slow, fast = (stats(package, truth, found, kind) for package in ('pycocotools', 'faster_coco_eval'))
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-9)
    return fast


@pytest.mark.skipif(not PARITY.is_dir(), reason=f'{PARITY} is absent')
@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_published_numbers_and_pycocotools(kind):
    truth = json.loads((PARITY / 'instances_val2014_100.json').read_text())
    found = json.loads((PARITY / f'instances_val2014_fake{kind}100_results.json').read_text())
    results = compare(truth, found, kind)
    text = (PARITY / 'val2014_fake_eval_res.txt').read_text()
    block = next(part for part in text.split('type=')[1:] if part.startswith(kind))
    published = [float(value) for value in re.findall(r'= (-?\d\.\d+)$', block, re.MULTILINE)][:12]
    assert len(published) == 12
    np.testing.assert_array_equal(np.round(results, 3), published)


def random_case(seed, crowds, ties):
    """Generate objects at the limits of COCO's size classes, and detections with exact and approximate overlap."""
    rng = np.random.default_rng(seed)
    sides = [31.9, 32., 32.1, 95.9, 96., 96.1, 5., 200.]
    truth = dict(images=[dict(id=i, width=640, height=480, file_name=f'{i}.jpg') for i in range(1, 6)],
                 categories=[dict(id=c, name=str(c)) for c in (1, 3)], annotations=[])
    found = []
    for image in range(1, 6):
        for _ in range(0 if image == 5 else rng.integers(1, 8)):  # one image without objects
            w, h = (float(rng.choice(sides)) for _ in range(2))
            x, y = (float(value) for value in rng.uniform(0, 300, 2))
            truth['annotations'].append(dict(
                id=len(truth['annotations']) + 1, image_id=image, category_id=int(rng.choice([1, 3])), area=w * h,
                bbox=[x, y, w, h], iscrowd=int(crowds and rng.random() < 0.3)))
            for _ in range(rng.integers(0, 4)):
                dx, dy = rng.normal(0, 6, 2) * rng.integers(0, 2)
                score = float(rng.choice([0.5, 0.9])) if ties else float(rng.random())
                found.append(dict(image_id=image, category_id=int(rng.choice([1, 3])), score=score,
                                  bbox=[x + float(dx), y + float(dy), w, h]))
    found.append(dict(image_id=5, category_id=1, score=0.99, bbox=[1., 1., 20., 20.]))
    return truth, found


@pytest.mark.parametrize('crowds', [False, True])
@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('seed', range(4))
def test_edge_cases(seed, crowds, ties):
    results = compare(*random_case(seed, crowds, ties), 'bbox')
    assert results[1] > 0


def test_more_than_a_hundred_detections_an_image():
    truth, found = random_case(0, False, False)
    found += [dict(found[0], score=0.001 * number) for number in range(150)]
    compare(truth, found, 'bbox')
