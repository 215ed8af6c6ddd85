"""Tests of Triton kernels: on the GPU if there is one, else in Triton's interpreter (see tests/ops/test_triton.py)."""
