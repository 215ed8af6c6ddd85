"""Weights that can be given by name: one table of the published files that this project reads.

Nothing here imports torch. URLs are those that the publishers' own READMEs, hubconf files or timm's table give.
Checksums are the publisher's, or were reported by several independent users of the file; the others are unknown.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import suggest

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_BARE_NAME = re.compile(r'[A-Za-z0-9_-]+')
_TIMM = 'timm:'


@dataclass(frozen=True)
class PublishedWeights:
    """A published file of weights.

    Attributes:
        name: Short name, unique. Detectors have the name of the config that reads them.
        url: Where the file is; for ``gated`` files the page on which to request it.
        license: License of the weights, by its SPDX name where it has one.
        fits: The ``arch``, ``model`` or config that reads it.
        source: Paper or repository.
        digest: Checksum, 'sha256:…' or 'md5:…', possibly only its first digits.
        size: Number of bytes.
        gated: Whether the publisher asks for an agreement first, so that it cannot be downloaded here.
        statistics: Mean and standard deviation of its RGB input in [0, 255]; empty: see the model.
        unconfirmed: Whether the URL follows the publisher's pattern but was not found in a public source.
        file: File name; by default the last part of the URL.
    """

    name: str
    url: str
    license: str
    fits: str
    source: str
    digest: str | None = None
    size: int | None = None
    gated: bool = False
    statistics: tuple[tuple[float, ...], ...] = IMAGENET
    unconfirmed: bool = False
    file: str = ''

    @property
    def file_name(self) -> str:
        return self.file or os.path.basename(self.url)


def find_published(name: str | os.PathLike) -> PublishedWeights | None:
    """Return the entry of a name, or None for anything else; a local file of that name takes precedence.

    Args:
        name: Name of the table or of :data:`ALIASES`, or ``timm:MODEL`` for the weights that timm has for one of its
            models.

    Raises:
        UserError: ``timm:`` without such a model.
    """
    text = os.fspath(name)
    if os.path.exists(text):
        return None
    if text.startswith(_TIMM):
        return _timm_weights(text)
    return TABLE.get(ALIASES.get(text, text))


def is_name(name: str | os.PathLike) -> bool:
    """Whether this is a name of :func:`find_published`, not a path or URL; it need not be known for ``timm:``."""
    text = os.fspath(name)
    return not os.path.exists(text) and (text.startswith(_TIMM) or text in TABLE or text in ALIASES)


def explain_unknown(name: str | os.PathLike) -> str:
    """Return a hint for a path that does not exist: similar names, or the name of this file; may be empty."""
    text = os.fspath(name)
    if _BARE_NAME.fullmatch(text):
        return (f'; no published weights have this name{suggest(text, TABLE)}: "vitdet weights list" lists them')
    same = [entry.name for entry in TABLE.values() if entry.file_name == os.path.basename(text)]
    return f'; "vitdet weights get {same[0]}" downloads the published file: give {same[0]} instead of a path' \
        if same else ''


def _timm_weights(name: str) -> PublishedWeights:
    import timm
    from timm.models import get_pretrained_cfg
    model = name.removeprefix(_TIMM)
    try:
        found = get_pretrained_cfg(model) if timm.is_model(model) else None
    except RuntimeError:  # the model has no such tag
        found = None
    if found is None or not found.hf_hub_id:
        known = timm.list_models(pretrained=True)
        raise UserError(f'{name}: timm {timm.__version__} has no weights for a model of this name'
                        f'{suggest(model, known)}; give timm:MODEL or timm:MODEL.TAG')
    tag = f'.{found.tag}' if found.tag and '.' not in model else ''
    statistics = tuple(tuple(round(255 * value, 3) for value in values) for values in (found.mean, found.std))
    return PublishedWeights(
        f'{name}{tag}', f'https://huggingface.co/{found.hf_hub_id}/resolve/main/model.safetensors',
        found.license or 'see its page', f"model='{model}{tag}' of timm", f'https://huggingface.co/{found.hf_hub_id}',
        statistics=statistics, file=f'{model}{tag}.safetensors')


def _plain_vits() -> list[PublishedWeights]:
    meta, mae = 'https://dl.fbaipublicfiles.com', 'https://arxiv.org/abs/2111.06377'
    entries = [PublishedWeights(f'mae_{size[0]}', f'{meta}/mae/pretrain/mae_pretrain_vit_{size}.pth',
                                'CC-BY-NC-4.0', f"ViTDet(arch='{size}')", mae, f'md5:{md5}')
               for size, md5 in (('base', '8cad7c'), ('large', 'b8b06e'), ('huge', '9bdbb0'))]
    for size, letter, registers, sha256, count in _DINOV2:
        suffix = f'_reg{registers}' if registers else ''
        entries.append(PublishedWeights(
            f'dinov2_{letter}14' + ('_reg' if registers else ''),
            f'{meta}/dinov2/dinov2_vit{letter}14/dinov2_vit{letter}14{suffix}_pretrain.pth', 'Apache-2.0',
            f"plain ViT, patch 14: timm's vit_{size}_patch14{suffix}_dinov2",
            'https://arxiv.org/abs/2309.16588' if registers else 'https://arxiv.org/abs/2304.07193',
            f'sha256:{sha256}', count))
    for name, model, digits in _DINOV3:
        entries.append(PublishedWeights(
            f'dinov3_{name.removeprefix("vit").replace("16plus", "16_plus")}', _DINOV3_PAGE, 'DINOv3 License',
            f"plain ViT, patch 16: timm's {model}", 'https://arxiv.org/abs/2508.10104', f'sha256:{digits}', gated=True,
            file=f'dinov3_{name}_pretrain_lvd1689m-{digits}.pth'))
    for size, stem, sha256, count in _SAM:
        entries.append(PublishedWeights(
            f'sam_{size[0]}', f'{meta}/segment_anything/{stem}.pth', 'Apache-2.0', f"ViTDet(arch='{size}')",
            'https://arxiv.org/abs/2304.02643', f'sha256:{sha256}', count))
    return entries


def _vitdet_detectors() -> list[PublishedWeights]:
    entries = []
    eva_paper = 'https://arxiv.org/abs/2303.11331'
    for path in _DETECTRON2:
        data, model = path.split('/')[:2]
        head, size = model.rsplit('_vitdet_', 1)
        epochs = 75 if (data, size) == ('COCO', 'h') else 100
        name = f'{head.replace("_", "-")}_vitdet-{size}_lsj-{epochs}e_{data.lower()}'
        entries.append(PublishedWeights(
            name, f'https://dl.fbaipublicfiles.com/detectron2/ViTDet/{path}.pkl', 'Apache-2.0 (code)', f'config {name}',
            'https://arxiv.org/abs/2203.16527'))
    base = 'https://huggingface.co/Yuxin-CV/EVA-02/resolve/main/eva02'
    for stem, config in _EVA02_DETECTORS.items():
        entries.append(PublishedWeights(
            stem.lower(), f'{base}/det/{stem}.pth', 'MIT',
            f'config cascade-mask-rcnn_eva02-{config}' if config else f'EVA-02-{stem[6]} as Cascade Mask R-CNN',
            eva_paper, unconfirmed=stem == 'eva02_L_lvis_bsl'))  # a later README links another file
    for stem in ('eva02_B_pt_in21k_p14to16', 'eva02_L_pt_in21k_p14to16', 'eva02_L_pt_m38m_p14to16'):
        entries.append(PublishedWeights(
            stem.lower(), f'{base}/pt/{stem}.pt', 'MIT', f'EVA-02-{stem[6]}, plain ViT, patch 16',
            eva_paper))
    return entries


def _other_families() -> list[PublishedWeights]:
    entries = []
    hub = 'https://huggingface.co/OpenGVLab/InternImage/resolve/main'
    for stem in _INTERNIMAGE:
        arch = {'t': 'tiny', 's': 'small', 'b': 'base', 'l': 'large', 'xl': 'xlarge'}[stem.split('_')[1]]
        entries.append(PublishedWeights(stem, f'{hub}/{stem}.pth', 'MIT', f"InternImage(arch='{arch}')", _INTERN_PAPER))
    for head, size in (('mask_rcnn', 't'), ('mask_rcnn', 's'), ('mask_rcnn', 'b'), ('cascade', 'l'), ('cascade', 'xl')):
        for schedule in ('1x', '3x'):
            method = 'mask-rcnn' if head == 'mask_rcnn' else 'cascade-mask-rcnn'
            name = f'{method}_internimage-{size}_fpn_{schedule}_coco'
            entries.append(PublishedWeights(name, f'{hub}/{head}_internimage_{size}_fpn_{schedule}_coco.pth', 'MIT',
                                            f'config {name}', _INTERN_PAPER))
    for name, stem in _INTERNIMAGE_DINO.items():
        entries.append(PublishedWeights(name, f'{hub}/{stem}.pth', 'MIT', f'config {name}', _INTERN_PAPER))
    for data, (suffix, classes) in _OBJECTS365.items():
        entries.append(PublishedWeights(
            f'dino_cb-internimage-h_4scale_objects365{data}',
            f'{hub}/dino_4scale_cbinternimage_h_objects365{suffix}.pth', 'MIT',
            f'DINO on two InternImage-H, {classes} classes', _INTERN_PAPER))
    for name, stem, fits in _VISION_LSTM:
        entries.append(PublishedWeights(name, f'https://ml.jku.at/research/vision_lstm/download/{stem}_in1k.th',
                                        'MIT OR Apache-2.0', fits, 'https://arxiv.org/abs/2406.04303'))
    for stem in _VOLO:
        arch, pixels = stem.split('_')[:2]
        entries.append(PublishedWeights(
            f'volo_{arch}_{pixels}', f'https://github.com/sail-sg/volo/releases/download/volo_1/{stem}.pth.tar',
            'Apache-2.0', f"VOLO(arch='{arch}')", 'https://arxiv.org/abs/2106.13112'))
    for stem in _CONVNEXT:
        entries.append(PublishedWeights(
            f'convnext_{stem}', f'https://dl.fbaipublicfiles.com/convnext/convnext_{stem}.pth', 'MIT',
            f"ConvNeXtBackbone(arch='{stem.split('_')[0]}')", 'https://arxiv.org/abs/2201.03545'))
    return entries


_DINOV2 = (
    ('small', 's', 0, 'b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9', 88283115),
    ('base', 'b', 0, '0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73', 346378731),
    ('large', 'l', 0, 'd5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428', 1217586395),
    ('giant', 'g', 0, 'baf8467e50af277596bbbafa06887c177ee899ab46033649c383577d7e9309d3', 4546108579),
    ('small', 's', 4, 'f433177089a681826f849f194ece3bb48f4d63fb38d32fc837e3dc7a4e5641fb', None),
    ('base', 'b', 4, '73182a088cf94833c94b1666d1c99e02fe87e2007bff57b564fb6206e25dba71', 346393545),
    ('large', 'l', 4, '36e4deffbaef061a2576705b0c36f93621e2ae20bf6274694821b0b492551b51', 1217607321),
    ('giant', 'g', 4, '746ecb8c6301c645c5c855be91687d274587d6e48fdaec4a729753160b34a283', 4546140349),
)
_DINOV3_PAGE = 'https://ai.meta.com/resources/models-and-libraries/dinov3-downloads/'
_DINOV3 = (  # the names of the files end with the first digits of their SHA-256
    ('vits16', 'vit_small_patch16_dinov3_qkvb', '08c60483'),
    ('vits16plus', 'vit_small_plus_patch16_dinov3_qkvb', '4057cbaa'),
    ('vitb16', 'vit_base_patch16_dinov3_qkvb', '73cec8be'),
    ('vitl16', 'vit_large_patch16_dinov3_qkvb', '8aa4cbdd'),
    ('vith16plus', 'vit_huge_plus_patch16_dinov3_qkvb', '7c1da9a5'),
)
_SAM = (  # the names of the files end with the first digits of their MD5
    ('base', 'sam_vit_b_01ec64', 'ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912', 375042383),
    ('large', 'sam_vit_l_0b3195', '3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622', None),
    ('huge', 'sam_vit_h_4b8939', 'a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e', 2564550879),
)
_DETECTRON2 = (
    'COCO/mask_rcnn_vitdet_b/f325346929/model_final_61ccd1', 'COCO/mask_rcnn_vitdet_l/f325599698/model_final_6146ed',
    'COCO/mask_rcnn_vitdet_h/f329145471/model_final_7224f1',
    'COCO/cascade_mask_rcnn_vitdet_b/f325358525/model_final_435fa9',
    'COCO/cascade_mask_rcnn_vitdet_l/f328021305/model_final_1a9f28',
    'COCO/cascade_mask_rcnn_vitdet_h/f328730692/model_final_f05665',
    'LVIS/mask_rcnn_vitdet_b/329225748/model_final_5251c5', 'LVIS/mask_rcnn_vitdet_l/329211570/model_final_021b3a',
    'LVIS/mask_rcnn_vitdet_h/332434656/model_final_866730',
    'LVIS/cascade_mask_rcnn_vitdet_b/329226874/model_final_df306f',
    'LVIS/cascade_mask_rcnn_vitdet_l/329042206/model_final_3e81c2',
    'LVIS/cascade_mask_rcnn_vitdet_h/332552778/model_final_11bbb7',
)
_EVA02_DETECTORS = {  # the config that reads each file; none for Objects365 (365 classes)
    'eva02_B_coco_bsl': 'b_lsj-60k_coco', 'eva02_L_coco_bsl': 'l_lsj-60k_coco',
    'eva02_B_coco_sys': 'b_lsj-60k-1536_coco', 'eva02_L_coco_sys': 'l_lsj-60k-1536_coco',
    'eva02_L_coco_det_sys_o365': 'l_lsj-40k-1536-o365_coco', 'eva02_L_coco_seg_sys_o365': 'l_lsj-40k-1536-o365_coco',
    'eva02_B_lvis_bsl': 'b_lsj-50k_lvis', 'eva02_L_lvis_bsl': 'l_lsj-40k_lvis',
    'eva02_L_lvis_sys': 'l_lsj-40k-1536_lvis', 'eva02_L_lvis_sys_o365': 'l_lsj-70k-1536-o365_lvis',
    'eva02_L_m38m_to_o365': '', 'eva02_L_in21k_to_o365': '',
}
_INTERN_PAPER = 'https://arxiv.org/abs/2211.05778'
_INTERNIMAGE = ('internimage_t_1k_224', 'internimage_s_1k_224', 'internimage_b_1k_224', 'internimage_l_22k_192to384',
                'internimage_xl_22k_192to384', 'internimage_l_22kto1k_384', 'internimage_xl_22kto1k_384')
_INTERNIMAGE_DINO = {  # the config that reads each file
    'dino_internimage-t_4scale_1x_coco': 'dino_4scale_internimage_t_1x_coco',
    'dino_internimage-l_4scale_1x_coco': 'dino_4scale_internimage_l_1x_coco_layer_wise_lr',
    'dino_internimage-l_4scale_1x-backbone-01x_coco': 'dino_4scale_internimage_l_1x_coco_0.1x_backbone_lr',
    'dino_cb-internimage-h_4scale_objects365_coco': 'dino_4scale_cbinternimage_h_objects365_coco',
}
_OBJECTS365 = {  # of the same detector: the end of the name, that of the file, number of classes
    '-80classes': ('_80classes', 80), '-20classes': ('_20classes', 20), '_lvis': ('_lvis', 1203),
    '_openimages': ('_openimages', 601), '_voc0712': ('_voc0712', 20),
}
_VISION_LSTM = (
    ('vil2_tiny', 'vil2_tiny16_e800', "VisionLSTM(arch='tiny')"),
    ('vil2_tiny_e400', 'vil2_tiny16_e400', "VisionLSTM(arch='tiny')"),
    ('vil2_small', 'vil2_small16_e400', "VisionLSTM(arch='small')"),
    ('vil2_base', 'vil2_base16_e400', "VisionLSTM(arch='base')"),
    ('vil_tiny', 'vil_tiny16_e800', "VisionLSTM(arch='tiny', version=1)"),
    ('vil_tiny_e400', 'vil_tiny16_e400', "VisionLSTM(arch='tiny', version=1)"),
    ('vil_small', 'vil_small16_e400', "VisionLSTM(arch='small', version=1)"),
    ('vil_base', 'vil_base16_e400', "VisionLSTM(arch='base', version=1)"),
)
_VOLO = ('d1_224_84.2', 'd1_384_85.2', 'd2_224_85.2', 'd2_384_86.0', 'd3_224_85.4', 'd3_448_86.3', 'd4_224_85.7',
         'd4_448_86.79', 'd5_224_86.10', 'd5_448_87.0', 'd5_512_87.07')
_CONVNEXT = (
    'tiny_1k_224_ema', 'small_1k_224_ema', 'base_1k_224_ema', 'base_1k_384', 'large_1k_224_ema', 'large_1k_384',
    'tiny_22k_224', 'small_22k_224', 'base_22k_224', 'large_22k_224', 'xlarge_22k_224', 'tiny_22k_1k_224',
    'tiny_22k_1k_384', 'small_22k_1k_224', 'small_22k_1k_384', 'base_22k_1k_224', 'base_22k_1k_384',
    'large_22k_1k_224', 'large_22k_1k_384', 'xlarge_22k_1k_224_ema', 'xlarge_22k_1k_384_ema',
)
TABLE = {entry.name: entry for entry in (*_plain_vits(), *_vitdet_detectors(), *_other_families())}
ALIASES = {f'dinov2_{letter}': f'dinov2_{letter}14' for letter in 'sblg'}
