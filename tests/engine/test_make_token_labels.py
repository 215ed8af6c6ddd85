"""Token-label files written with a classifier: their content, and reading them for training."""

import cv2
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from tests.backbones.test_volo import ARCH
from tests.datasets.tiny_classes import CLASSES, write_class_folders
from tests.end_to_end.tiny_set import load_tool
from tests.visualization.tiny_folder_classifier import write_classifier
from vitdet_plugin.datasets.token_labels import LoadTokenLabels, dense_map, read_token_labels
from vitdet_plugin.engine.load_model import load_model
from vitdet_plugin.engine.make_token_labels import dense_logits
from vitdet_plugin.errors import UserError


def test_the_command(tmp_path, capsys):
    root = write_class_folders(tmp_path / 'a set', per_class=2, suffixes=('.png',))
    config, weights = write_classifier(tmp_path, root)
    words = [config, weights, str(root), '--out', str(tmp_path / 'labels'), '--top', '2', '--device', 'cpu']
    assert load_tool('dataset/token_labels').main(words) == 0
    assert '6 label files' in capsys.readouterr().out
    file = tmp_path / 'labels' / CLASSES[1] / '01.pt'
    labels = read_token_labels(file)
    assert labels.shape == (2, 2, 4, 6) and labels.dtype == torch.float16
    model = load_model(config, weights, 'cpu').model
    image = cv2.resize(cv2.imread(str(root / CLASSES[1] / '01.png')), (48, 32), interpolation=cv2.INTER_CUBIC)
    with torch.no_grad():
        inputs = model.data_preprocessor(dict(inputs=[torch.from_numpy(image).permute(2, 0, 1)]), False)['inputs']
        last = model.backbone(inputs)[-1]
        expected = model.head.fc(model.head.norm(last.permute(0, 2, 3, 1)))[0].permute(2, 0, 1)
    values, classes = expected.topk(2, dim=0)
    torch.testing.assert_close(labels[0].float(), values, atol=2e-3, rtol=2e-3)
    assert torch.equal(labels[1].long(), classes)
    found = LoadTokenLabels(str(tmp_path / 'labels'), (4, 6))(
        dict(img_path=str(root / CLASSES[1] / '01.png'), crop_box=(0, 0, 1, 1)))
    torch.testing.assert_close(found['gt_token_logits'], dense_map(labels)[1])

    file.unlink()
    assert load_tool('dataset/token_labels').main(words) == 0
    assert '1 label files' in capsys.readouterr().out and file.is_file()
    cv2.imwrite(str(root / CLASSES[1] / '01.jpg'), image)
    assert load_tool('dataset/token_labels').main(words) == 2
    assert 'have the same label file' in capsys.readouterr().err


@pytest.mark.parametrize('dense', [True, False])
def test_dense_logits_of_volo(dense):
    import mmpretrain.models  # noqa: F401
    init_default_scope('mmpretrain')
    model = MODELS.build(dict(type='ImageClassifier', backbone=dict(type='VOLO', arch=ARCH, img_size=64),
                              head=dict(type='VOLOClsHead', num_classes=3, in_channels=32, num_heads=4, dense=dense)))
    model.eval()
    x = torch.randn(2, 3, 64, 48)
    if not dense:
        with pytest.raises(UserError, match='cannot classify single locations'):
            dense_logits(model, x)
        return
    logits = dense_logits(model, x)
    assert logits.shape == (2, 3, 4, 3)
    cls_logits = model.head.both_logits(model.backbone(x)[-1])[0]
    torch.testing.assert_close(model(x, mode='tensor'), cls_logits + 0.5 * logits.flatten(2).amax(2))
