"""Bilinear sampling at computed positions, for the kernels of DCNv3 and multi-scale deformable attention."""
