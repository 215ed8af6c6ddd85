"""A hook that saves the final parameters of every rank; configs import it with ``custom_imports``."""

import os

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class RankDumpHook(Hook):
    """Save the parameters of this rank to ``<work dir>/rank<r>.pth`` after training."""

    def after_train(self, runner) -> None:
        model = getattr(runner.model, 'module', runner.model)
        torch.save(model.state_dict(), os.path.join(runner.work_dir, f'rank{runner.rank}.pth'))
