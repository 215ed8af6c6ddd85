"""Run mmdet's DetInferencer without and with the plugin: ``python -m tests.compat.mmdet_inferencer FOLDER``.

Prints one JSON object for each, both from forks of one process, as patches cannot be removed from a process.
"""

import json
import multiprocessing
import sys
from pathlib import Path

from vitdet_plugin.compat import mmcv_ext

mmcv_ext.install()  # mmdet cannot be imported without these operators
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != '_StackFinder']

import numpy as np  # noqa: E402
import torch  # noqa: E402
from mmdet.apis import DetInferencer  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmengine.config import Config  # noqa: E402

from tests.compat.tiny_detector import tiny_mask_rcnn  # noqa: E402

IMAGE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)


def write_files(folder: Path) -> None:
    """``config.py``, ``weights.pth`` with a state dict only, ``complete.pth`` with the config in its meta data."""
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64), keep_ratio=True),
                dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
    config = Config(dict(
        model=tiny_mask_rcnn(), default_scope='mmdet', test_pipeline=pipeline,
        visualizer=dict(type='DetLocalVisualizer', name='visualizer'),
        test_dataloader=dict(dataset=dict(type='CocoDataset', metainfo=dict(classes=('a', 'b', 'c')), lazy_init=True,
                                          pipeline=pipeline))))
    config.dump(folder / 'config.py')
    torch.manual_seed(0)
    state = MODELS.build(config.model).state_dict()
    meta = dict(cfg=config.pretty_text, dataset_meta=dict(classes=('a', 'b', 'c')))
    torch.save(dict(state_dict=state), folder / 'weights.pth')
    torch.save(dict(state_dict=state, meta=meta), folder / 'complete.pth')


def predict(folder: Path) -> dict:
    """Predictions of each way to start the inferencer."""
    results = {}
    for name, arguments in {'state dict': dict(model=str(folder / 'config.py'), weights=str(folder / 'weights.pth')),
                            'config of the file': dict(weights=str(folder / 'complete.pth'))}.items():
        inferencer = DetInferencer(**arguments, device='cpu', show_progress=False)
        found = inferencer(IMAGE)['predictions'][0]
        results[name] = dict(classes=inferencer.model.dataset_meta['classes'], scores=found['scores'],
                             boxes=found['bboxes'], model=inferencer.cfg.model.type)
    return results


def run(folder: Path, has_plugin: bool) -> None:
    if has_plugin:
        import vitdet_plugin
        vitdet_plugin.register_all()
    (folder / f'{has_plugin}.json').write_text(json.dumps(predict(folder)))


def main(folder: Path) -> None:
    write_files(folder)
    context = multiprocessing.get_context('fork')
    for has_plugin in (False, True):
        process = context.Process(target=run, args=(folder, has_plugin))
        process.start()
        process.join()


if __name__ == '__main__':
    main(Path(sys.argv[1]))
