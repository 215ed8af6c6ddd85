"""Script of test_ranks.py on every rank: detectors under DDP without ``find_unused_parameters``.

One rank has no objects.
"""

import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from tests.detr.co_small import co_dino_cfg
from tests.detr.small import build, dino_cfg

SIZE = (64, 96)


def main(folder: str) -> None:
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    cfgs = dict(dino=dino_cfg(layers=1, levels=3), co=co_dino_cfg(layers=1, levels=3))
    states = {kind: train(cfg, rank) for kind, cfg in cfgs.items()}
    torch.save({f'{kind}.{name}': value for kind, state in states.items() for name, value in state.items()},
               f'{folder}/rank{rank}.pth')
    dist.destroy_process_group()


def train(cfg: dict, rank: int) -> dict:
    """Train for two steps and return the weights."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData
    model = build(cfg).train()
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(rank)
    for _ in range(2):
        sample = DetDataSample(metainfo=dict(
            img_shape=SIZE, ori_shape=SIZE, pad_shape=SIZE, batch_input_shape=SIZE, img_id=0))
        boxes = torch.tensor([[4.0, 4, 40, 28]] * (1 - rank)).reshape(-1, 4)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.ones(1 - rank, dtype=torch.long))
        losses = parallel(torch.randn(1, 3, *SIZE, generator=generator), [sample], mode='loss')
        loss, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.state_dict()


if __name__ == '__main__':
    main(sys.argv[1])
