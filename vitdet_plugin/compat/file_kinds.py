"""Files of weights by their names, and what a file is that was given as one but is not, from its content."""

from __future__ import annotations

import json
import os
import zipfile

from vitdet_plugin.compat.checked_file import is_archive

WEIGHT_SUFFIXES = ('.pth', '.pt', '.bin', '.pkl', '.safetensors', '.th', '.pth.tar')
_HEAD = 4096
_AGAIN = 'download it again'
_IMAGE = 'is an image; give the file of the weights'
# first bytes of other kinds of files
_MAGIC = ((b'\x1f\x8b', 'is compressed with gzip; unpack it first'), (b'BZh', 'is compressed with bzip2; unpack it '
          'first'), (b'\xfd7zXZ', 'is compressed with xz; unpack it first'), (b'\x89HDF', 'is an HDF5 file (Keras); '
          'convert it to PyTorch first'), (b'GGUF', "is a GGUF file; give the weights in PyTorch's format"),
          (b'\x89PNG', _IMAGE), (b'\xff\xd8\xff', _IMAGE),
          (b'%PDF', f'is a PDF; {_AGAIN}'), (b'\x93NUMPY', 'is a single NumPy array; give a file of named weights'))


def has_weight_suffix(path: str | os.PathLike) -> bool:
    """Whether a name ends as those of files of weights do."""
    return os.fspath(path).lower().endswith(WEIGHT_SUFFIXES)


def describe_wrong_file(path: str | os.PathLike) -> str | None:
    """Return what is wrong with a file that cannot be a checkpoint and what to do, or None if it may be one.

    Args:
        path: Existing file or folder. At most its first bytes and, of an archive, its list of names are read.
    """
    if os.path.isdir(path):
        return 'is a folder; give a checkpoint file in it'
    with open(path, 'rb') as file:
        head = file.read(_HEAD)
    if not head:
        return f'is empty (0 bytes); {_AGAIN}, or use an older one'
    if head.startswith(b'version https://git-lfs'):
        return 'is a pointer of Git LFS, not the file itself; run "git lfs pull" in its repository or download the file'
    start = head.lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if start.startswith((b'<!doctype', b'<html', b'<?xml', b'<head')):
        return f'is a web page (an error page of the server?), not a checkpoint; delete it and {_AGAIN}'
    if start.startswith((b'{', b'[')):
        return _describe_json(path)
    for magic, text in _MAGIC:
        if head.startswith(magic):
            return text
    if head[257:262] == b'ustar':
        return _describe_tar(path)
    if is_archive(path):
        return _describe_archive(path)
    if head.startswith(b'PK\x03\x04'):
        return f'is truncated: the end of its archive is missing; {_AGAIN}, or use an older one'
    return None


def _describe_json(path: str | os.PathLike) -> str | None:
    try:
        with open(path, encoding='utf-8-sig') as file:
            content = json.load(file)
    except (ValueError, RecursionError):
        return None
    if isinstance(content, dict) and isinstance(content.get('weight_map'), dict):
        files = sorted(set(map(str, content['weight_map'].values())))
        return (f'is the index of weights in {len(files)} files ({files[0]} …), which are not read together; load the '
                'model with transformers and save its state_dict to one file')
    return 'is JSON text, not weights; give the file of the weights'


def _describe_tar(path: str | os.PathLike) -> str | None:
    import tarfile
    try:
        with tarfile.open(path) as archive:
            names = archive.getnames()
    except (tarfile.TarError, OSError, EOFError):
        return f'is a damaged tar archive; {_AGAIN}'
    if {'storages', 'tensors', 'pickle'} <= set(names):
        return None  # torch's format before 0.1.10
    return f'is a tar archive ({", ".join(names[:3])} …); unpack it and give the checkpoint in it'


def _describe_archive(path: str | os.PathLike) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError):
        return None  # the reader describes the damage
    parts = {name.split('/', 1)[-1] for name in names}
    if 'constants.pkl' in parts:
        return ("is a TorchScript archive, a program with its weights; save its weights alone: "
                "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')")
    if any(name.endswith('.pt2') or 'exported_program' in name or name.endswith('serialized_exported_program.json')
           for name in parts) or 'archive_format' in parts:
        return 'is a program of torch.export; save its weights alone: torch.save(torch.export.load(FILE).state_dict, …)'
    if 'data.pkl' in parts:
        return None
    if names and all(name.endswith('.npy') for name in names):
        return ('is an archive of NumPy arrays (.npz), as JAX projects publish; load it into a model of timm and save '
                'its state_dict')
    shown = ', '.join(names[:3]) or 'empty'
    return f'is a zip archive of other files ({shown}); unpack it and give the checkpoint in it'
