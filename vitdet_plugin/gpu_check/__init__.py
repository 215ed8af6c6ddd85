"""``vitdet gpu-check``: prove and time this package on the GPU of a machine.

Each part is a module with ``run(settings)``, which yields :class:`vitdet_plugin.gpu_check.results.Result` as it goes;
:mod:`vitdet_plugin.gpu_check.parts` lists them and runs each in a process of its own, so that a failure, a crash or a
part that takes too long does not hide the others. Parts run on ``device='cpu'`` with tiny sizes too, in the tests.
"""
