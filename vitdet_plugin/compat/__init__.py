"""What the OpenMMLab stack needs in order to run here; nothing outside this room patches anything.

=====================  ================================================================================
``mmcv_ext``           torchvision's operators behind ``mmcv._ext`` where mmcv has none compiled
``mmdet_precision``    pixel coordinates stay float32 under autocast
``launch``             process groups and DDP on the CPU; torchrun, SLURM, OpenMPI
``amp``                mixed precision on the CPU
``safe_load``          checkpoints are read without executing anything from them
``atomic_save``        a crash while saving leaves the old checkpoint or the new one
``versions``           one clear line where installed versions cannot work together; less noise at import
=====================  ================================================================================
"""

from vitdet_plugin.compat import mmcv_ext, versions


def install() -> None:
    """Make the stack usable on this machine; safe to call more than once.

    Raises:
        vitdet_plugin.errors.UserError: the installed versions cannot work together.
    """
    versions.require('mmengine')
    versions.require('mmcv')
    mmcv_ext.install()
    versions.require('mmdet.datasets')
    # these import mmengine and mmdet
    from vitdet_plugin.compat import amp, atomic_save, launch, mmdet_precision, safe_load

    mmdet_precision.install()
    launch.install()
    safe_load.install()
    atomic_save.install()
    assert amp.AutocastOptimWrapper  # its import registered it
