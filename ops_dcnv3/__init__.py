"""DCNv3, the operator of InternImage (arXiv 2211.05778), on every machine: compiled for CPU and CUDA, or in PyTorch."""

from ops_dcnv3 import modules
from ops_dcnv3.backends import backend_info
from ops_dcnv3.functional import dcnv3
from ops_dcnv3.module import DCNv3

__all__ = ['DCNv3', 'backend_info', 'dcnv3', 'modules']
