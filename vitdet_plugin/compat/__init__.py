"""Patches that adapt the OpenMMLab stack to this machine. No other subpackage patches anything.

=====================  ================================================================================
``mmcv_ext``           torchvision's operators as ``mmcv._ext`` where mmcv has none compiled
``deferred_imports``   packages that a few classes of mmdet need are imported when they are used
``mmdet_precision``    pixel coordinates stay float32 under autocast
``mmcv_layers``        feed-forward networks and self-attention of mmcv with less memory traffic
``dino_decoder``       DINO's decoder has the shapes of the published weights
``coco_files``         COCO files with text ids, RLE masks, missing keys, …
``coco_start``         large COCO files are read once a machine
``resize``             images are resized to at least one pixel
``sampling``           random samples of anchors are drawn on their device
``iou_assigner``       boxes are assigned to objects without waiting for the GPU
``two_stage``          annotations are not copied in each training step
``layer_decay``        mmdet's layer-wise learning rates for the backbones of this project
``coco_api``           labels follow the class names; evaluation of files without masks, ``iscrowd`` or results
``launch``             process groups and DDP on the CPU; torchrun, SLURM, OpenMPI
``amp``                mixed precision on the CPU
``safe_load``          checkpoints are read without executing anything from them
``atomic_save``        a crash while saving leaves either the old checkpoint or the new one
``packaged_configs``   ``vitdet_plugin::NAME`` in ``_base_``
``config_format``      the text of a config with long paths is formatted in milliseconds
``image_loading``      an image of another size than annotated is an error
``data_loading``       reading of samples and order of batches of one data loader
``optim_step``         losses, optimizer steps and clipping of one training
``ms_deform_attn``     multi-scale deformable attention by this project's operator; installed by ``registration``
``nms``                non-maximum suppression by this project's operator on a GPU; installed by ``registration``
``inductor_layouts``   inductor orders strides that are symbols of a graph; installed when a backbone is captured
``versions``           one-line errors if installed versions are incompatible; less output at import
``patching``           how a patch is installed and listed
=====================  ================================================================================

``python -m vitdet_plugin.compat`` prints every patch; :func:`report` returns them.
"""

import contextlib
from importlib import import_module

from vitdet_plugin.compat.patching import PatchRecord, records
from vitdet_plugin.errors import UserError

_OF_MMENGINE = ('launch', 'safe_load', 'atomic_save', 'packaged_configs', 'config_format')
_OF_MMDET = ('mmdet_precision', 'mmcv_layers', 'dino_decoder', 'image_loading', 'coco_files', 'coco_api', 'coco_start',
             'resize', 'sampling', 'iou_assigner', 'two_stage', 'layer_decay')
_MODULES = ('mmcv_ext', 'deferred_imports', *_OF_MMDET, *_OF_MMENGINE, 'data_loading', 'optim_step', 'ms_deform_attn',
            'inductor_layouts')


def install() -> bool:
    """Make the stack usable on this machine; safe to call more than once.

    Returns:
        Whether mmcv and mmdet are installed. Without them only mmengine is adapted.

    Raises:
        vitdet_plugin.errors.UserError: The installed versions cannot work together.
    """
    from vitdet_plugin.compat import versions

    versions.require('mmengine')
    has_mmcv = versions.is_installed('mmcv')
    has_stack = has_mmcv and versions.is_installed('mmdet')
    if has_mmcv:
        versions.require('mmcv')
        _module('mmcv_ext').install()  # before anything imports mmcv.ops
    if has_stack:
        with _module('deferred_imports').deferred_imports():
            versions.require('mmdet.datasets')
            versions.require('mmdet.models')
        for name in _OF_MMDET:
            try:
                _module(name).install()
            except ModuleNotFoundError as error:  # the patched modules of mmdet import more than mmdet itself
                raise UserError(f'mmdet needs the package {error.name}, which is not installed: '
                                f'pip install {error.name}') from error
    for name in _OF_MMENGINE:
        # mmengine.runner imports OpenCV and matplotlib, which a bare environment may lack
        with contextlib.nullcontext() if has_stack else contextlib.suppress(ModuleNotFoundError):
            _module(name).install()
    return has_stack


def report() -> list[PatchRecord]:
    """List every patch of the stack with its target, reason, upstream versions, and whether it is installed."""
    for name in _MODULES:
        _module(name)
    return records()


def _module(name: str):
    return import_module(f'{__name__}.{name}')
