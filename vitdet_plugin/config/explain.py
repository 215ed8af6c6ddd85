"""Explain exceptions of mmengine, mmdet and torch in one line that says what to change."""

import os
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json import JSONDecodeError

from mmengine.config import Config

from vitdet_plugin.config.registry import all_registries, find_registered
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import suggest

_NOT_REGISTERED = re.compile(r'(?P<name>[\w.]+) is not in the (?P<scope>\w+)::(?P<registry>[\w ]+) registry')
_LOST_PEER = re.compile(r'Timed out waiting \d+ms|Connection (?:closed|reset) by peer|Broken pipe|Watchdog caught|'
                        r'NCCL.*(?:timeout|remote process)|Application timeout caused pair closure')
_LOST_WORKER = re.compile(r'DataLoader worker \(pid.*?\d\) (?:is killed by signal: [\w ]+|exited unexpectedly)')
_CHANNELS = re.compile(r'mean has \d+ values, the input tensor should')
_NOT_INSTALLED = re.compile(r'not installed|pip install|No module named')
_UNEXPECTED = re.compile(r"(?P<where>[\w.]+)\(\) got an unexpected keyword argument '(?P<key>\w+)'")
_MISSING = re.compile(r'(?P<where>[\w.]+)\(\) missing \d+ required [a-z -]+: (?P<keys>.+)')

# constructors of the code of BEiT, ViTDet and InternImage
_LAYER_DECAY = ('LayerDecayOptimizerConstructor', 'CustomLayerDecayOptimizerConstructor')
_SIZES = ('channels', 'depths', 'groups', 'dims', 'embed_dim', 'embed_dims', 'depth', 'num_heads')  # keys of arch
_BUILT_FROM_CONFIGS = ('mmengine', 'mmdet', 'mmpretrain', 'mmcv', 'torch')


@contextmanager
def user_errors(cfg: Config) -> Iterator[None]:
    """Re-raise exceptions caused by a mistake in ``cfg`` or its files as ``UserError``; others pass unchanged."""
    try:
        yield
    except UserError as error:
        if 'DataLoader worker' not in str(error):
            raise
        raise UserError(str(error).strip().splitlines()[-1].partition('UserError: ')[2]) from error
    except Exception as error:
        line = explain(error, cfg)
        if line is None:
            raise
        raise UserError(line) from error


def explain(error: BaseException, cfg: Config) -> str | None:
    """Return a one-line explanation of an exception, or None if it is not caused by a mistake of the user.

    Args:
        error: Exception raised while building or running from ``cfg``.
        cfg: The config in use. Its file name is part of the explanation.
    """
    name, text = cfg.filename or 'config', ' '.join(str(error).split())
    for errors, pattern, explanation in _EXPLANATIONS:
        match = re.search(pattern, text)
        if match is None or not isinstance(error, errors):
            continue
        if isinstance(explanation, str):
            return explanation.format(name=name, text=text, end=text[-100:], found=match[0],
                                      rank=os.environ.get('RANK', '?'), work_dir=cfg.get('work_dir'))
        line = explanation(error, cfg, match)
        if line is not None:
            return f'{name}: {line}'
    return None


def _explain_unregistered(error: BaseException, cfg: Config, match: re.Match) -> str:
    name, scope, registry = match['name'], match['scope'], match['registry']
    prefix, _, bare = name.rpartition('.')
    known = {entry for each in all_registries() if each.name == registry for entry in each.module_dict}
    elsewhere = [each for each in all_registries() if bare in each.module_dict]
    own_kind = [each for each in elsewhere if each.name == registry]
    if own_kind:
        owner = own_kind[0].scope
        return (f'type {name!r} is not registered in {prefix or scope}, but in {owner}. Write '
                f'type={bare if owner == "mmengine" else f"{owner}.{bare}"!r}')
    if elsewhere:
        return (f'{bare} is registered as a {elsewhere[0].name}, not as a {registry}. Check that the key '
                f'is the right one and that default_scope={cfg.get("default_scope")!r} is correct')
    imports = (cfg.get('custom_imports') or {}).get('imports') or []
    hint = suggest(bare, known)
    if bare in _LAYER_DECAY:
        hint = ' (did you mean LayerWiseDecayConstructor, with paramwise_cfg=dict(layer_decay_rate=…)?)'
    if 'vitdet_plugin' in imports:
        return f'type {bare!r} is not registered as a {registry}{hint}'
    return (f'type {bare!r} is not registered as a {registry}{hint}. Import the module that registers it: '
            "custom_imports=dict(imports=['vitdet_plugin'], allow_failed_imports=False)")


def _explain_unexpected(error: BaseException, cfg: Config, match: re.Match) -> str:
    import inspect
    owner = _owner(match)
    target = find_registered(owner) if owner != '__init__' else None
    known = inspect.signature(target).parameters if target is not None else ()
    is_size = 'arch' in known and match['key'] in _SIZES
    hint = '; sizes are one argument, arch=dict(…)' if is_size else suggest(match['key'], known)
    return f'{owner} does not take {match["key"]!r}{hint}'


def _explain_missing(error: BaseException, cfg: Config, match: re.Match) -> str:
    return f'{_owner(match)} needs {match["keys"]}, missing in the config. Add it'


def _owner(match: re.Match) -> str:
    return match['where'].replace('.__init__', '')


def _explain_untyped(error: BaseException, cfg: Config, match: re.Match) -> str:
    """Name the keys of the section without a type, and what it was to become."""
    frame = list(traceback.walk_tb(error.__traceback__))[-1][0]
    section, registry = frame.f_locals.get('cfg'), frame.f_locals.get('registry')
    what = f'a {registry.name}' if registry is not None else 'a part'
    keys = f'has no type, only {", ".join(map(str, section))}' if section else 'is empty'
    return f'the section of {what} {keys}; add its type, or remove _delete_=True if it replaced a section'


def _explain_missing_file(error: BaseException, cfg: Config, match: re.Match) -> str:
    missing = getattr(error, 'filename', None) or ' '.join(str(error).split())
    return f'{missing} does not exist. Check data_root, ann_file, data_prefix, VITDET_DATA or load_from'


def _explain_json(error: BaseException, cfg: Config, match: re.Match) -> str:
    assert isinstance(error, JSONDecodeError)
    return f'annotation file is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}'


def _explain_channels(error: BaseException, cfg: Config, match: re.Match) -> str | None:
    frames = traceback.walk_tb(error.__traceback__)
    if not any(type(frame.f_locals.get('self')).__name__.endswith('DataPreprocessor') for frame, _ in frames):
        return None
    return ('the images have another number of channels than model.data_preprocessor.mean; set color_type of '
            "LoadImageFromFile to 'color', or give as many values as channels")


def _explain_refusal(error: BaseException, cfg: Config, match: re.Match) -> str | None:
    """Name the class of the OpenMMLab packages or torch whose constructor refused an argument."""
    frames = list(traceback.walk_tb(error.__traceback__))
    for frame, _ in reversed(frames[-3:]):
        module = frame.f_globals.get('__name__', '')
        is_built = module.split('.')[0] in _BUILT_FROM_CONFIGS and not module.startswith('torch.nn')
        if frame.f_code.co_name == '__init__' and is_built:
            return f'{type(frame.f_locals.get("self")).__name__}: {match[0]}'
    return None


# errors, a pattern in their text, and the explanation: a format string, or a function whose line follows the name of
# the config; it returns None for errors of other causes. The first explanation is used, so special ones come first.
_Function = Callable[[BaseException, Config, re.Match], str | None]
_MEMORY = ('the memory of this machine, or of this job, is used up. Set a smaller train_dataloader.batch_size or '
           'num_workers; --resume continues a training from its last checkpoint')
_EXPLANATIONS: tuple[tuple[type | tuple[type, ...], str, str | _Function], ...] = (
    (Exception, r'(?P<name>[\w.]+) is not in the (?P<scope>\w+)::(?P<registry>[\w ]+) registry', _explain_unregistered),
    (TypeError, r"(?P<where>[\w.]+)\(\) got an unexpected keyword argument '(?P<key>\w+)'", _explain_unexpected),
    (TypeError, r'(?P<where>[\w.]+)\(\) missing \d+ required [a-z -]+: (?P<keys>.+)', _explain_missing),
    (KeyError, 'must contain the key "type"', _explain_untyped),
    (KeyError, "^'scale_factor'$",
     '{name}: the pipeline of the evaluation has no Resize, whose scale_factor brings boxes back to the image. Add '
     "dict(type='Resize', scale_factor=1.0), which keeps the size, and 'scale_factor' to meta_keys if the config sets "
     'them'),
    (FileNotFoundError, '', _explain_missing_file),
    (JSONDecodeError, '', _explain_json),
    (ValueError, 'need at least one array to concatenate',
     '{name}: the data set is empty after filtering. Compare metainfo.classes with the categories of the annotation '
     'file, and filter_cfg with the images'),
    ((RuntimeError, OSError), r'Timed out waiting \d+ms|Connection (?:closed|reset) by peer|Broken pipe|'
     r'Watchdog caught|NCCL.*(?:timeout|remote process)|Application timeout caused pair closure',
     'rank {rank}: another process of this run died or did not answer in time ({end}). Check its output. The timeout '
     'is VITDET_DIST_TIMEOUT seconds; --resume continues from the last checkpoint'),
    (RuntimeError, r'DataLoader worker \(pid.*?\d\) (?:is killed by signal: [\w ]+|exited unexpectedly)',
     '{found}: memory or shared memory (/dev/shm) was probably used up. Set a smaller train_dataloader.num_workers; '
     '--resume continues a training from its last checkpoint'),
    ((ImportError, RuntimeError), '^(?!.*vitdet_plugin).*(?:not installed|pip install|No module named)',
     '{name}: {text}; install the package, or leave out the part of the config that needs it'),
    (NotImplementedError, 'get_layer_depth',
     "{name}: optim_wrapper.constructor: mmpretrain's constructor of layer-wise learning rates needs its classifiers "
     "and backbones that have get_layer_depth. Use constructor='LayerWiseDecayConstructor', which takes "
     'paramwise_cfg=dict(layer_decay_rate=…), with a backbone of vitdet_plugin'),
    (AttributeError, 'get_cat_ids',
     '{name}: ClassBalancedDataset cannot contain a ConcatDataset; put a ClassBalancedDataset around each of its data '
     'sets'),
    (IndexError, '', _explain_channels),
    (Exception, r'mean has \d+ values, the input tensor should', _explain_channels),
    (OSError, r'^\[Errno 28\]',
     'no space left on the disk of {work_dir}. Free some space or choose another --work-dir'),
    (MemoryError, '', _MEMORY),
    (RuntimeError, "can't allocate memory|not enough memory", _MEMORY),  # of torch's allocator for CPUs
    ((ValueError, TypeError, AssertionError), '.+', _explain_refusal),
    (RuntimeError, 'out of memory',  # torch.OutOfMemoryError is one
     'out of GPU memory. Try --amp, a smaller train_dataloader.batch_size with --auto-scale-lr, activation '
     'checkpointing (model.backbone.with_cp=True) or FSDP (as in mask-rcnn_vitdet-h_lsj-75e-fsdp_coco)'),
)
