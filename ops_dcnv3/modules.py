"""The layers under the official package's module name: ``from ops_dcnv3 import modules as opsm; opsm.DCNv3``."""

from ops_dcnv3.module import DCNv3, DCNv3_pytorch

__all__ = ['DCNv3', 'DCNv3_pytorch']
