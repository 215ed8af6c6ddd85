"""Choose the starting point of a training by the task and the weights that can be had."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from vitdet_plugin.checkpoints.fetching import download_url, present_file
from vitdet_plugin.checkpoints.published import explain_unknown, find_published
from vitdet_plugin.compat.remote_files import is_remote
from vitdet_plugin.datasets.own_data.offers import DEFAULTS, MODELS, OfferedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import suggest

_WAIT = 5.0  # seconds for an answer of the server
_NO_HEAD = (405, 501)  # answers of servers that only send whole files


def find_model(name: str, task: str) -> OfferedModel:
    """Return the model of a name; ``tiny`` stands for the small one of the task.

    Raises:
        UserError: There is no such model, or it is for another task.
    """
    name = f'{DEFAULTS[task]}-tiny' if name == 'tiny' else name
    if name not in MODELS:
        raise UserError(f'--model {name}: not one of {", ".join(MODELS)}{suggest(name, MODELS)}')
    model = MODELS[name]
    if model.task != task:
        fitting = ', '.join(each.name for each in MODELS.values() if each.task == task)
        raise UserError(f'--model {name} is for the task {model.task}, and the task here is {task}; choose one of '
                        f'{fitting}, or another --task')
    return model


def choose_model(task: str, name: str | None, weights: str | None) -> tuple[OfferedModel, str | None, str]:
    """Choose the model and the weights that it starts from.

    Args:
        task: ``detect``, ``segment`` or ``classify``.
        name: Name of a model; by default the first of the task whose weights can be had.
        weights: A file, URL, or name of published weights in place of the template's.

    Returns:
        Model; its weights, None for those of the template; the reason, one phrase.

    Raises:
        UserError: An unknown model, one for another task, or weights that do not exist.
    """
    model = find_model(name or DEFAULTS[task], task)
    if weights:
        if find_published(weights) is None and not is_remote(weights):
            path = Path(weights).expanduser()
            if not path.is_file():
                raise UserError(f'--weights {weights}: no such file{explain_unknown(weights)}')
            weights = str(path.absolute())
        return model, weights, f'{model.summary}; the backbone starts from {weights}'
    if model.weights is None:
        return model, None, model.summary
    found, where = locate_weights(model.weights)
    if found:
        return model, None, f'{model.summary}; weights {model.weights}: {where}'
    tiny = MODELS[model.tiny]
    line = (f'the weights {model.weights} of {model.name} cannot be had ({where}); "vitdet weights get '
            f'{model.weights}" downloads them, --weights FILE takes a file')
    if name:
        return model, None, f'{model.summary}. Training needs its weights: {line}'
    return tiny, None, f'{tiny.summary}, because {line}'


def locate_weights(name: str) -> tuple[bool, str]:
    """Return whether published weights are on this machine or their server answers, and where or why not."""
    path = present_file(name)
    if path is not None:
        return True, str(path)
    entry = find_published(name)
    if entry is None or entry.gated:
        return False, 'not on this machine'
    url = download_url(entry)
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method='HEAD'), timeout=_WAIT):
            size = f' ({entry.size / 2**20:.0f} MB)' if entry.size else ''
            return True, f'downloaded{size} once, when training starts, from {url}'
    except (OSError, ValueError) as error:
        if getattr(error, 'code', None) in _NO_HEAD:
            return True, f'downloaded once, when training starts, from {url}'
        reason = getattr(error, 'reason', None) or error
        return False, f'not on this machine, and {url} does not answer: {reason}'
