"""Training, testing and prediction from Python.

>>> from vitdet_plugin.api import Inferencer, test, train
>>> result = train('vitdet_demo', work_dir='work_dirs/demo', seed=0)
>>> metrics = test('vitdet_demo', result.last_checkpoint)
>>> detector = Inferencer.load('vitdet_demo', result.last_checkpoint)
>>> detector.predict('images/', score_thr=0.5, out_dir='drawn/')[0].names
"""

from vitdet_plugin.api.inferencer import Classification, Detections, Inferencer
from vitdet_plugin.api.runs import TrainResult, test, train
from vitdet_plugin.errors import UserError

__all__ = ['Classification', 'Detections', 'Inferencer', 'TrainResult', 'UserError', 'test', 'train']
