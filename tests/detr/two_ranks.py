"""Script of test_ranks.py on every rank: DINO under DDP without ``find_unused_parameters``; one rank has no objects."""

import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from tests.detr.small import build, dino_cfg


def main(folder: str) -> None:
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    model = build(dino_cfg(layers=1)).train()
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(rank)
    for _ in range(2):
        sample = DetDataSample(metainfo=dict(img_shape=(32, 64), ori_shape=(32, 64), batch_input_shape=(32, 64)))
        boxes = torch.tensor([[4.0, 4, 40, 28]] * (1 - rank)).reshape(-1, 4)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.ones(1 - rank, dtype=torch.long))
        losses = parallel(torch.randn(1, 3, 32, 64, generator=generator), [sample], mode='loss')
        loss, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(model.state_dict(), f'{folder}/rank{rank}.pth')
    dist.destroy_process_group()


if __name__ == '__main__':
    main(sys.argv[1])
