"""Ways to import the package, each in its own process: ``python -m tests.imports.scenarios`` prints what happened.

torch, timm and mmengine are imported once; each scenario runs in a fork of that process. After the first one, so are
packages whose earlier import changes nothing for the others.
"""

import importlib
import json
import multiprocessing
import pickle
import sys
import threading
import traceback
import types
import warnings

import mmengine.dist.utils
import mmengine.model
import mmengine.optim
import mmengine.runner
import timm
import torch
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import checkpoint

from tests.imports.bare_backbones import import_backbones
from tests.imports.blocked_packages import STACK, block

PATCHED = (mmengine.dist.utils, mmengine.model, mmengine.model.MMDistributedDataParallel, mmengine.optim,
           mmengine.optim.OptimWrapper, mmengine.runner, mmengine.runner.Runner, checkpoint,
           checkpoint.CheckpointLoader, torch, torch.utils.data.DataLoader, torch.nn.Module, timm.layers)


def is_registered() -> bool:
    """Whether every class of the package is registered; inspects imported modules and imports nothing."""
    from vitdet_plugin.utils.registering import registering_modules
    return all(name in sys.modules for name in registering_modules())


def missing_modules() -> list[str]:
    from vitdet_plugin.utils.registering import registering_modules
    return [name for name in registering_modules() if name not in sys.modules]


def bare() -> dict:
    already = set(sys.modules)
    before = [dict(vars(owner)) for owner in PATCHED]
    finders, registry = list(sys.meta_path), set(HOOKS.module_dict)
    import_backbones()
    changed = [f'{owner.__name__}.{name}' for owner, names in zip(PATCHED, before)
               for name, value in vars(owner).items() if names.get(name) is not value]
    from vitdet_plugin.compat import report
    return dict(imported=sorted({name.partition('.')[0] for name in set(sys.modules) - already}),
                changed=changed, hooks=sorted(set(HOOKS.module_dict) - registry),
                finders=[type(finder).__name__ for finder in sys.meta_path if finder not in finders],
                patches=[record.target for record in report() if record.installed],
                backbones=sorted(name for name, cls in MODELS.module_dict.items()
                                 if cls.__module__.startswith('vitdet_plugin.backbones')))


def by_name() -> bool:
    import vitdet_plugin  # noqa: F401
    return is_registered()


def by_name_inside_another_package() -> bool:
    module = types.ModuleType('project')
    exec('import vitdet_plugin', vars(module))
    return is_registered()


def mmdet_first() -> bool:
    import mmdet  # noqa: F401
    import_backbones()
    return is_registered()


def mmdet_later() -> dict:
    import_backbones()
    before = is_registered()
    import mmdet.models
    return dict(before=before, after=is_registered(), loader=type(mmdet.__spec__.loader).__name__,
                finders=[type(finder).__name__ for finder in sys.meta_path], is_package=hasattr(mmdet, '__path__'))


def mmpretrain_later() -> bool:
    import_backbones()
    import mmpretrain.models  # noqa: F401
    return is_registered()


def head_later() -> bool:
    import_backbones()
    from vitdet_plugin.heads.yolov5_head import YOLOv5Head  # noqa: F401
    return is_registered()


def config_later() -> bool:
    import_backbones()
    from vitdet_plugin.config.loading import load_config
    load_config('vitdet_demo')
    return is_registered()


def unpickled_transform() -> bool:
    """Unpickle a transform, as a spawned data worker does first."""
    pickle.loads(b'cvitdet_plugin.transforms.large_scale_jitter\nLargeScaleJitter\n.')
    return is_registered()


def unpickled_dataset() -> bool:
    """mmdet is imported while this module of the package is being imported."""
    pickle.loads(b'cvitdet_plugin.datasets.lvis\nCocoDataset\n.')
    return is_registered()


def threads() -> list[bool]:
    import_backbones()
    import vitdet_plugin
    found = []

    def register() -> None:
        vitdet_plugin.register_all()
        found.append(is_registered())

    workers = [threading.Thread(target=register) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    vitdet_plugin.register_all()
    return found


def failing_registration() -> dict:
    import_backbones()
    sys.modules['vitdet_plugin.registration'] = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        import mmdet
    return dict(version=mmdet.__version__, warnings=[str(each.message) for each in caught])


def without_the_stack() -> dict:
    block(*STACK)
    import vitdet_plugin  # noqa: F401
    from vitdet_plugin.config.loading import load_config
    from vitdet_plugin.errors import UserError
    try:
        load_config('vitdet_demo')
        message = None
    except UserError as error:
        message = str(error)
    return dict(missing=missing_modules(), message=message)


def stack_without_a_dependency() -> str:
    """mmdet is installed, but a package that it needs is not: this is an error."""
    block('terminaltables')
    try:
        import vitdet_plugin  # noqa: F401
    except Exception as error:
        return str(error)
    return 'imported'


NEUTRAL = ('matplotlib.pyplot', 'scipy.optimize', 'torchvision.ops', 'pycocotools.mask')
SCENARIOS = [bare, by_name, by_name_inside_another_package, mmdet_first, mmdet_later, mmpretrain_later, head_later,
             config_later, unpickled_transform, unpickled_dataset, threads, failing_registration, without_the_stack,
             stack_without_a_dependency]


def run(scenario, sender) -> None:
    try:
        sender.send(scenario())
    except BaseException:
        sender.send(f'raised: {traceback.format_exc()}')


def main() -> None:
    context = multiprocessing.get_context('fork')
    results = {}
    for scenario in SCENARIOS:
        if scenario is not bare:
            for name in NEUTRAL:
                importlib.import_module(name)
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=run, args=(scenario, sender))
        process.start()
        sender.close()
        try:
            results[scenario.__name__] = receiver.recv()
        except EOFError:
            results[scenario.__name__] = 'the process ended without a result'
        process.join()
    print(json.dumps(results))


if __name__ == '__main__':
    main()
