"""What a time on a GPU contains, with a clock in place of one."""

from types import SimpleNamespace

import pytest
import torch

from vitdet_plugin.gpu_check import measuring


class Device:
    """A GPU that runs each step's kernels for 2 ms after the CPU has launched them, which takes 5 ms."""

    def __init__(self):
        self.cpu = self.gpu = 0.0

    def step(self):
        self.cpu += 0.005
        self.gpu = max(self.cpu, self.gpu) + 0.002


@pytest.fixture
def gpu(monkeypatch):
    device = Device()

    class Event:
        def __init__(self, **kwargs):
            self.time = 0.0

        def record(self):
            device.gpu = self.time = max(device.gpu, device.cpu)

        def synchronize(self):
            device.cpu = max(device.cpu, self.time)

        def elapsed_time(self, end):
            return 1000 * (end.time - self.time)

    monkeypatch.setattr(torch.cuda, 'Event', Event)
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: setattr(device, 'cpu', max(device.cpu, device.gpu)))
    monkeypatch.setattr(torch.cuda, 'memory_allocated', lambda: 1 << 30)
    monkeypatch.setattr(torch.cuda, 'max_memory_allocated', lambda: 3 << 30)
    monkeypatch.setattr(torch.cuda, 'reset_peak_memory_stats', lambda: None)
    monkeypatch.setattr(measuring, 'time', SimpleNamespace(perf_counter=lambda: device.cpu))
    monkeypatch.setattr(measuring, 'kernel_time', lambda step: 2.0)
    return device


def test_alone_queued_and_the_parts_of_cpu_and_gpu(gpu):
    """Alone, the kernels come after the CPU's part; in a queue they overlap with that of the next step."""
    numbers = measuring.measure(gpu.step, 'cuda', 0.1)
    assert numbers == pytest.approx(dict(ms=7.0, queued_ms=5 + 2 / 14, cpu_ms=5.0, kernels_ms=2.0, gib=2.0))
    assert measuring.describe(numbers) == '7.000 ms alone, 5.143 ms queued (kernels 2.000 ms, CPU 5.000 ms), 2.00 GiB'


def test_a_cpu_has_one_time():
    numbers = measuring.measure(lambda: None, 'cpu')
    assert set(numbers) == {'ms'} and measuring.describe(dict(ms=1.5)) == '1.500 ms'
