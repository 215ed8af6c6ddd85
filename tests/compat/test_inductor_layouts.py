"""Strides that are symbols of a graph are ordered with the values of the captured call."""

import pytest
import sympy
import torch
from torch._inductor import ir
from torch._inductor.virtualized import V
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from vitdet_plugin.compat import inductor_layouts


class Graph:
    def __init__(self, shape_env):
        self.sizevars = self
        self.shape_env = shape_env


@pytest.fixture
def quotient():
    """A shape environment and 8 * (H // 4) for H = 12."""
    from torch._dynamo.source import ConstantSource
    from torch.fx.experimental.symbolic_shapes import DimDynamic

    env = ShapeEnv()
    height = env.create_symbol(12, ConstantSource('height'), DimDynamic.DYNAMIC)
    size = env.create_symintnode(height, hint=12)
    return env, (8 * (size // 4)).node.expr


def test_quotients_are_ordered(quotient, monkeypatch):
    monkeypatch.setattr(ir, 'get_fill_order', getattr(ir.get_fill_order, '__wrapped__', ir.get_fill_order))
    env, stride = quotient
    strides = [4 * stride, sympy.Integer(1), stride, sympy.Integer(8)]
    with pytest.raises(TypeError, match='cannot determine truth value'):
        ir.get_fill_order(strides)  # the reason for the patch; once this passes, remove it for this version of torch
    assert inductor_layouts.install_for_compilation() and inductor_layouts.install_for_compilation()
    with V.set_graph_handler(Graph(env)):
        assert list(ir.get_fill_order(strides)) == [1, 3, 2, 0]
        assert list(ir.get_stride_order(strides)) == [3, 0, 2, 1]
    assert env.guards  # the order holds for the sizes of the graph only
    with pytest.raises(TypeError):  # outside of a compilation
        ir.get_fill_order(strides)


def test_a_version_without_the_function_is_left_as_it_is(monkeypatch):
    monkeypatch.delattr(ir, 'get_fill_order')
    assert not inductor_layouts.install_for_compilation()
    assert torch.compile(lambda x: x + 1, backend='eager')(torch.zeros(1)) == 1
