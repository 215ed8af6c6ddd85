"""Convert a checkpoint of any known format to this project's names, as ``.pth`` or ``.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from vitdet_plugin.checkpoints.classes import match_classes
from vitdet_plugin.checkpoints.fetching import local_file
from vitdet_plugin.checkpoints.files import read_weights
from vitdet_plugin.checkpoints.official import LoadReport, convert, load_official
from vitdet_plugin.checkpoints.recognition import OURS
from vitdet_plugin.compat.atomic_save import find_damage
from vitdet_plugin.errors import UserError
from vitdet_plugin.layers.pos_embed import fit_stored_pos_embed, resize_kernel
from vitdet_plugin.utils.output_files import write_atomically

TARGETS = ('mmdet', 'safetensors')


def convert_checkpoint(source: str | Path, target: str | Path, *, to: str | None = None, model: nn.Module | None = None,
                       form: str | None = None, allow_unexpected: Sequence[str] = (), patch_size: int | None = 16,
                       classes: tuple[Sequence[str], Sequence[str]] | None = None, key: str | None = None,
                       prefix: str | None = None) -> LoadReport:
    """Read ``source``, rename its weights to this project's names and write them to ``target``.

    Args:
        to: 'mmdet' (a ``.pth`` with ``state_dict``, which mmengine loads) or 'safetensors'; by default from the
            suffix of ``target``.
        model: A detector, classifier or backbone to fit the weights to: weights are resized, and weights that the model
            lacks are an error. Without a model only the names and the patch size change.
        form: Name of the format, instead of recognizing it by the weights' names.
        allow_unexpected: Names, or patterns with ``*``, of weights that no rule covers and that may be left out.
        patch_size: Without a model, resize patch embeddings of plain ViTs in other formats (14 in MAE's ViT-H) to this;
            None: keep the size. Files of this project are not resized.
        classes: Class names in the file and class names of the result, to reorder the rows of the last layers by name.
        key: Where in the file the weights are, such as 'model_ema'; default: the averaged ones, if there are any.
        prefix: Part of the names that selects weights and is removed.

    Returns:
        The report; without a model it lists no missing weights.

    Raises:
        UserError: Unknown or ambiguous format, unexpected weights, weights that do not fit, or a file that cannot be
            read or written.
    """
    source, target = local_file(source), Path(target)
    to = to or ('safetensors' if target.suffix == '.safetensors' else 'mmdet')
    if to not in TARGETS:
        raise UserError(f'--to {to}: choose one of {", ".join(TARGETS)}')
    if target.exists() and source.exists() and target.samefile(source):
        raise UserError(f'{target} is the file to convert: choose another name for the result')
    if model is None:
        state, report = _rename(source, form, allow_unexpected, key, prefix)
        if patch_size and report.recognized_as not in OURS:
            _resize_patches(state, patch_size, report)
    else:
        report = load_official(model, source, form=form, allow_unexpected=allow_unexpected, other_classes=bool(classes),
                               key=key, prefix=prefix)
        state = {name: value for name, value in model.state_dict().items() if name in set(report.matched)}
    if classes:
        report.resized.update(match_classes(state, *classes))
    write_state_dict(state, target, to, dict(source=source.name, format=report.recognized_as))
    return report


def write_state_dict(state: dict[str, Tensor], path: str | Path, to: str, notes: dict[str, str]) -> None:
    """Write weights as ``state_dict`` of a torch file, or as safetensors; ``notes`` become its metadata."""
    state = {name: value.detach().clone().contiguous() for name, value in state.items()}  # nothing shares memory
    if to == 'safetensors':
        from safetensors.torch import save
        write_atomically(path, lambda file: file.write(save(state, metadata={**notes, 'format': 'pt',
                                                                             'vitdet_plugin': json.dumps(notes)})))
    else:
        write_atomically(path, lambda file: torch.save(dict(meta=notes, state_dict=state), file),
                         find_damage=find_damage)


def _rename(source: Path, form: str | None, allow_unexpected: Sequence[str], key: str | None,
            prefix: str | None) -> tuple[dict[str, Tensor], LoadReport]:
    weights = read_weights(source, key, prefix)
    report, converted = convert(weights.state, set(), str(source), form)
    report.note = weights.note
    report.matched = list(converted.state)
    report.allow(allow_unexpected)
    report.raise_for_leftovers()
    return converted.state, report


def _resize_patches(state: dict[str, Tensor], size: int, report: LoadReport) -> None:
    """Resize kernels to ``size`` x ``size`` pixels, and the position embedding's grid for the same image size."""
    kernel, pos = (state.get(f'backbone.{name}') for name in ('patch_embed.proj.weight', 'pos_embed'))
    is_plain = 'backbone.blocks.0.attn.qkv.weight' in state  # VOLO and Vision-LSTM have a kernel of this name, too
    if not is_plain or kernel is None or kernel.ndim != 4 or kernel.shape[-1] == size or pos is None:
        return
    before = kernel.shape[-1]
    slot = pos.ndim == 3 and int(pos.shape[1] ** 0.5) ** 2 != pos.shape[1]
    grid = int((pos.shape[1] - slot) ** 0.5) if pos.ndim == 3 else pos.shape[1]
    target = torch.empty(1, (grid * before // size) ** 2 + slot, pos.shape[-1])
    resized_pos = fit_stored_pos_embed(pos, target)
    if resized_pos is None:
        raise UserError(f'{report.source}: pos_embed of shape {tuple(pos.shape)} is not a square grid and cannot be '
                        'resized; keep the patches at their size with --patch-size 0')
    new = {'backbone.patch_embed.proj.weight': resize_kernel(kernel, (size, size)).to(kernel.dtype),
           'backbone.pos_embed': resized_pos.to(pos.dtype)}
    for name, value in new.items():
        report.resized[name] = f'{tuple(state[name].shape)} to {tuple(value.shape)}'
        state[name] = value
