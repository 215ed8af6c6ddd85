"""Check that losses of overlap get boxes, not the offsets that a head predicts."""

from mmdet.models.dense_heads import AnchorHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from torch import nn

from vitdet_plugin.datasets.checks.findings import Finding


def check_box_losses(model: nn.Module | None) -> list[Finding]:
    """Return an error for each head that computes an IoU loss from encoded offsets, which has no meaning.

    Heads that decode by themselves, such as GFL's, have their own loss function.

    Args:
        model: The model on the meta device; None if it cannot be built there.
    """
    findings = []
    for name, head in model.named_modules() if model is not None else ():
        loss = type(getattr(head, 'loss_bbox', None)).__name__
        is_encoded = getattr(head, 'reg_decoded_bbox', True) is False and (
            all(getattr(type(head), method, None) is getattr(AnchorHead, method)
                for method in ('loss_by_feat', 'loss_by_feat_single'))
            or getattr(type(head), 'loss', None) is BBoxHead.loss)
        if loss.endswith('IoULoss') and is_encoded:
            findings.append(Finding('error', f'model.{name}: {loss} compares boxes, but the head gives it their '
                                             'offsets; set reg_decoded_bbox=True'))
    return findings
