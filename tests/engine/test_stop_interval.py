"""How often several ranks ask each other for signals."""

import signal
import types

import pytest
from torch import nn

from vitdet_plugin.engine import stopping
from vitdet_plugin.engine.stopping import StopHook, Stopped


def exchanges(monkeypatch, steps, ranks=2, received_in=None, updates_every=1, **options):
    """Run the hook; return the steps with an exchange, and the number of steps at the stop."""
    hook, asked = StopHook(**options), []
    wrapper = types.SimpleNamespace(should_update=lambda: (runner.iter + 1) % updates_every == 0)
    runner = types.SimpleNamespace(model=nn.Linear(1, 1), iter=0, optim_wrapper=wrapper)
    monkeypatch.setattr(stopping, 'is_distributed', lambda: ranks > 1)
    def stop(runner, finished):
        raise Stopped(str(finished), signal.SIGTERM)

    monkeypatch.setattr(hook, '_stop', stop)

    def is_asked(runner):
        asked.append(runner.iter + 1)
        return received_in is not None and runner.iter + 1 >= received_in

    monkeypatch.setattr(hook, '_is_asked', is_asked)
    for runner.iter in range(steps):
        try:
            hook.after_train_iter(runner, 0)
        except Stopped as stopped:
            return asked, int(str(stopped))
    return asked, None


@pytest.mark.parametrize(('options', 'found'), [
    (dict(interval=4), [4, 8]),
    (dict(), list(range(1, 10))),
    (dict(interval=4, ranks=1), list(range(1, 10))),
])
def test_steps_with_an_exchange(monkeypatch, options, found):
    assert exchanges(monkeypatch, 9, **options) == (found, None)


def test_stops_after_the_exchange_and_an_optimizer_step(monkeypatch):
    assert exchanges(monkeypatch, 20, received_in=2, interval=4) == ([4], 4)
    assert exchanges(monkeypatch, 20, received_in=2, interval=4, updates_every=3) == ([4], 6)
