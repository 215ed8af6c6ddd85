"""DCNv3, the operator of InternImage (arXiv 2211.05778): compiled for CPU and CUDA, in PyTorch elsewhere."""

import vitdet_plugin.ops  # noqa: F401  before this package's modules, which its parent may import in turn
from ops_dcnv3 import modules
from ops_dcnv3.backends import backend_info
from ops_dcnv3.functional import dcnv3
from ops_dcnv3.module import DCNv3

__all__ = ['DCNv3', 'backend_info', 'dcnv3', 'modules']
