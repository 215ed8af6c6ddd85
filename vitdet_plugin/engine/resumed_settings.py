"""Settings of the optimizer and the schedule that were changed before a training is resumed.

mmengine replaces them by those of the checkpoint: a longer training would continue at the last learning rate.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler import ReduceOnPlateauParamScheduler

_PROGRESS = ('last_step', '_global_step', '_last_value')  # of a scheduler; the rest are settings


class ConfiguredSettings:
    """What the config says of optimizer and schedule, taken before the state of a checkpoint replaces it.

    Args:
        wrapper: The optimizer. Only an ``OptimWrapper`` is supported; others stay as the checkpoint has them.
        schedulers: Its schedulers, as they were built.
    """

    def __init__(self, wrapper: Any, schedulers: Any) -> None:
        self._is_known = isinstance(wrapper, OptimWrapper) and isinstance(schedulers or [], (list, tuple)) and not any(
            isinstance(each, ReduceOnPlateauParamScheduler) for each in schedulers or ())
        if self._is_known:
            self._groups = [{key: copy.copy(value) for key, value in group.items() if key != 'params'}
                            for group in wrapper.param_groups]
            self._schedulers = [copy.deepcopy(each.state_dict()) for each in schedulers or ()]

    def restore(self, wrapper: Any, schedulers: Any, epoch_length: int, scale: float = 1.0) -> list[str]:
        """Restore the settings that the checkpoint has replaced.

        If the schedule or the initial values differ, the values of this step become those that a training with these
        settings would have reached.

        Args:
            wrapper, schedulers: As for the constructor, with the state of the checkpoint.
            epoch_length: Steps of an epoch.
            scale: Steps until here in this run / steps that the checkpoint has counted, for epochs of another length.

        Returns:
            A text for each setting that differs.
        """
        if not self._is_known:
            return []
        schedulers, groups = schedulers or (), wrapper.param_groups  # the last one may be base_param_settings: base_lr
        scheduled = {each.param_name for each in schedulers}
        changes = []
        for key in sorted(set().union(*self._groups) - scheduled):
            having = [(group, configured[key]) for group, configured in zip(groups, self._groups) if key in configured]
            before, now = [group.get(key) for group, _ in having], [value for _, value in having]
            if _is_number(now) and before != now:
                for group, value in having:
                    group[key] = value
                old, new = next(pair for pair in zip(before, now) if pair[0] != pair[1])
                changes.append(f'{key.removeprefix("initial_")} {old} -> {new}')
        is_rescheduled = any(f'initial_{change.split()[0]}' in self._groups[0] for change in changes)
        for scheduler, configured in zip(schedulers, self._schedulers):
            for key in sorted(set(configured) - {*_PROGRESS, 'base_values'}):  # these are the initial values above
                if getattr(scheduler, key, None) != configured[key]:
                    is_rescheduled = True
                    changes.append(f'{key} of {type(scheduler).__name__} {getattr(scheduler, key, None)} -> '
                                   f'{configured[key]}')
        if is_rescheduled:
            self._replay(schedulers, groups, epoch_length, scale)
        return changes

    def _replay(self, schedulers: Sequence[Any], groups: Sequence[dict], epoch_length: int, scale: float) -> None:
        """Step the schedulers from their start, as often as those of the checkpoint were stepped."""
        done = [each._global_step if each.by_epoch else round(each._global_step * scale) for each in schedulers]
        for scheduler, state in zip(schedulers, self._schedulers):
            scheduler.load_state_dict(copy.deepcopy(state))
            for group, configured in zip(groups, self._groups):
                group[scheduler.param_name] = configured[scheduler.param_name]
        every = [epoch_length if each.by_epoch else 1 for each in schedulers]
        total = max(count * steps for count, steps in zip(done, every))
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)  # no step of the optimizer comes between
            for step in range(1, total + 1):
                for scheduler, count, steps in zip(schedulers, done, every):
                    if step % steps == 0 and step // steps <= count:
                        scheduler.step()


def _is_number(values: Sequence[Any]) -> bool:
    """Whether these are values of a setting such as the weight decay, not switches of the implementation."""
    flat = [each for value in values for each in (value if isinstance(value, (list, tuple)) else [value])]
    return all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in flat)
