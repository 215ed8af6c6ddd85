"""Malicious files: pickles that run code when loaded, and archives that would exhaust the memory."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import torch


class Runs:
    """Creates the folder ``marker`` when unpickled."""

    def __init__(self, marker: Path):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


class Imports:
    """Calls builtins.exec when unpickled."""

    def __init__(self, marker: Path):
        self.code = f'import os; os.mkdir({str(marker)!r})'

    def __reduce__(self):
        return exec, (self.code,)


def checkpoint(model: dict, **changes) -> dict:
    """Return a checkpoint in the form saved by training."""
    return {**dict(meta=dict(epoch=1, iter=4, seed=0), state_dict=model, message_hub=dict(
        log_scalars={}, runtime_info={}, resumed_keys={}), optimizer=dict(state={}, param_groups=[]),
        param_schedulers=[]), **changes}


def write_all(folder: Path, marker: Path, weights: dict) -> dict[str, Path]:
    """Write all malicious files and return their paths by name; ``marker`` is created if one of them runs its code."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        'weights.pth': checkpoint({**weights, 'x': Runs(marker)}),
        'optimizer.pth': checkpoint(weights, optimizer=dict(state={0: Runs(marker)}, param_groups=[])),
        'ema.pth': checkpoint(weights, ema_state_dict=dict(steps=Imports(marker))),
        'meta.pth': checkpoint(weights, meta=dict(epoch=1, iter=4, hook=Runs(marker))),
        'message_hub.pth': checkpoint(weights, message_hub=dict(log_scalars=Runs(marker))),
        'key.pth': {**checkpoint(weights), 'position': {('a', Runs(marker)): 1}},
    }
    for name, content in contents.items():
        torch.save(content, folder / name)
    torch.save(contents['weights.pth'], folder / 'old_format.pth', _use_new_zipfile_serialization=False)
    (folder / 'bare.pth').write_bytes(pickle.dumps(contents['weights.pth']))
    arrays = {name: value.numpy() for name, value in weights.items()}
    (folder / 'arrays.pkl').write_bytes(pickle.dumps({'model': {**arrays, 'x': Runs(marker)}}))
    (folder / 'object_array.pkl').write_bytes(pickle.dumps({'model': np.array([Runs(marker)], dtype=object)}))
    (folder / 'renamed.safetensors').write_bytes((folder / 'bare.pth').read_bytes())
    _bombs(folder)
    _path_tricks(folder, weights)
    return {path.name: path for path in sorted(folder.iterdir())}


def _bombs(folder: Path) -> None:
    with zipfile.ZipFile(folder / 'bomb.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', pickle.dumps({}))
        archive.writestr('archive/data/0', bytes(64 << 20))
    with zipfile.ZipFile(folder / 'overlap.pth', 'w') as archive:  # one record with a thousand directory entries
        archive.writestr('archive/data/0', bytes(1 << 20))
        entry = archive.filelist[0]
        archive.filelist += [entry] * 1000
    header = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    (folder / 'bomb.safetensors').write_bytes(struct.pack('<Q', len(header)) + header)
    # ndarray.__setstate__ with a shape of 16 TB and four bytes of data
    big = pickle.dumps({'model': {'a': np.zeros(4, np.float32)}}, 2)
    (folder / 'bomb.pkl').write_bytes(big.replace(b'K\x04\x85', b'\x8a\x06\x00\x00\x00\x00\x00\x04\x85'))


def _path_tricks(folder: Path, weights: dict) -> None:
    """Write an archive whose record names are paths outside the archive."""
    buffer = io.BytesIO()
    torch.save(checkpoint(weights), buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(folder / 'climbs.pth', 'w') as target:
        for entry in source.infolist():
            target.writestr(f'../../{entry.filename}', source.read(entry))
