"""Run exported models without torch and mmdet: NumPy, ONNX Runtime or OpenVINO, and OpenCV or Pillow.

The package imports nothing else, and this folder can be copied next to a model and used without the others.

>>> from vitdet_plugin.runtime import load
>>> model = load('model.onnx')
>>> for result in model.stream('photos/', batch_size=8):
...     print(result.path, result.names, result.scores)
"""

from .errors import ModelError
from .model import Model, load
from .results import Classification, Detections

__all__ = ['Classification', 'Detections', 'Model', 'ModelError', 'load']
