"""A command line of every tool, with names of good files in braces; test_user_mistakes.py spoils one at a time.

Add one for a new tool here: the test that finds the tools by itself asks for it.
"""

import json
from pathlib import Path

import torch

from tests.end_to_end.tiny_classes import CLASSES, write_tiny_classes
from tests.end_to_end.tiny_set import CONFIG, ROOT, write_tiny_set
from tests.security.hostile import checkpoint

# what stands in braces: input files of these kinds, and {out}, a place to write to
LINES = {
    'analysis/cam': ['{config} {weights} {pictures} --out {out}'],
    'analysis/get_flops': ['{config} --repeats 0 --no-trace --json {out}'],
    'analysis/plot_curves': ['{log} --out {out}.png'],
    'analysis/report': ['{config} {weights} --out {out}'],
    'check_goldens': ['{cases}'],
    'dataset/browse': ['{config} --out {out}'],
    'dataset/check': ['{coco} --images {pictures}', '{classes} --json {out}', '--config {config}'],
    'dataset/convert': ['voc-to-coco {folder} --out {out}', 'yolo-to-coco {folder} --classes a,b --out {out}',
                        'coco-to-yolo {coco} --out {out}', 'coco-to-voc {coco} --out {out}'],
    'dataset/make_demo_set': ['--train 1 --val 1 --out {out}'],
    'dataset/mean_std': ['{classes} --out {out}', '{pictures} --ann {coco} --out {out}'],
    'dataset/split': ['{classes} --out {out}', '{classes} --groups {table} --out {out}'],
    'dataset/stats': ['{classes} --out {out}', '{pictures} --ann {coco} --out {out}'],
    'dataset/token_labels': ['{config} {weights} {pictures} --out {out}'],
    'demo': ['{config}'],
    'export/onnx': ['{config} {weights} --out {out}.onnx'],
    'model_converters/convert': ['{weights} {out}.pth', '{weights} {out}.safetensors --config {config}',
                                 '{weights} {out}.pth --classes-from {names} --classes-to {names}'],
    'predict': ['{config} {weights} {pictures} --out {out}'],
    'pretrain_demo': ['--config {config} --data {out} --out {out}.safetensors --pictures 2 --steps 1'],
    'setup_env': [],  # arguments of its own kind, see test_setup_env.py
    'test': ['{config} {weights} --work-dir {out}', '{config} {weights} --out {out}.json'],
    'train': ['{config} --work-dir {out}', '{config} --work-dir {out} --load-from {weights}',
              '{config} --work-dir {out} --resume {state}'],
}


def discover() -> list[str]:
    """Names of all tools, ``dataset/check``; modules with a leading underscore are shared parts."""
    tools = ROOT / 'tools'
    return sorted(path.relative_to(tools).with_suffix('').as_posix() for path in tools.rglob('*.py')
                  if not path.name.startswith('_'))


def write_files(folder: Path) -> dict[str, str]:
    """Write a good file for every name in braces; returns their paths."""
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    from vitdet_plugin.config.loading import load_config
    write_tiny_set(folder / 'set', images=2)
    write_tiny_classes(folder / 'classes', train=4, val=1)
    cfg = load_config(str(CONFIG))
    init_default_scope('mmdet')
    weights = MODELS.build(cfg.model).state_dict()
    torch.save(dict(state_dict=weights), folder / 'weights.pth')
    torch.save(checkpoint(weights), folder / 'state.pth')
    (folder / 'scalars.json').write_text(json.dumps(dict(loss=1., iter=1)) + '\n')
    (folder / 'names.txt').write_text('apple\nlime\nplum\n')
    (folder / 'table.csv').write_text('file,group\n' + ''.join(f'{name}/{index}.png,{index}\n' for name in CLASSES
                                                                  for index in range(4)))
    (folder / 'cases').mkdir()
    return dict(config=str(CONFIG), weights=str(folder / 'weights.pth'),
                state=str(folder / 'state.pth'), pictures=str(folder / 'set' / 'images'),
                coco=str(folder / 'set' / 'coco.json'), folder=str(folder / 'set'), cases=str(folder / 'cases'),
                classes=str(folder / 'classes' / 'train'), log=str(folder / 'scalars.json'),
                names=str(folder / 'names.txt'), table=str(folder / 'table.csv'))


def write_spoilt(folder: Path, good: dict[str, str]) -> dict[str, tuple[str, str, str]]:
    """What can be wrong with a file: mistake -> (its name in braces, the spoilt file, what the message must say)."""
    config, weights = Path(good['config']).read_text(), Path(good['weights']).read_bytes()
    texts = {'syntax': f'{config}\nmodel = dict(\n', 'near': config.replace("'ViTDet'", "'ViTDett'"),
             'lost import': config.replace("custom_imports = dict(imports=['vitdet_plugin'], "
                                           'allow_failed_imports=False)', '').replace("'ViTDet'", "'ViTDett'"),
             'nothing': "work_dir = 'x'\n"}
    for name, text in texts.items():
        assert text != config
        (folder / f'{name}.py').write_text(text)
    (folder / 'cut.pth').write_bytes(weights[:len(weights) // 2])
    (folder / 'empty.pth').write_bytes(b'')
    (folder / 'text.pth').write_text('not a checkpoint\n')
    torch.save(dict(state_dict={'layer1.0.weight': torch.zeros(3, 3), 'fc.bias': torch.zeros(9)}),
               folder / 'other.pth')
    for name, text in {'broken': '{"images": [', 'list': '[1, 2]', 'void': ''}.items():
        (folder / f'{name}.json').write_text(text)
    path = {name: str(folder / name) for name in ('cut.pth', 'empty.pth', 'text.pth', 'other.pth', 'broken.json',
                                                  'list.json', 'void.json', *(f'{name}.py' for name in texts))}
    return {
        'config that is no Python': ('config', path['syntax.py'], 'syntax.py, line '),
        'unregistered name': ('config', path['near.py'], 'did you mean ViTDet'),
        'missing import': ('config', path['lost import.py'], "custom_imports=dict(imports=['vitdet_plugin']"),
        'config without anything': ('config', path['nothing.py'], 'nothing.py'),
        'checkpoint that is cut off': ('weights', path['cut.pth'], 'cut.pth'),
        'empty checkpoint': ('weights', path['empty.pth'], 'empty.pth'),
        'checkpoint that is none': ('weights', path['text.pth'], 'text.pth'),
        'checkpoint of another model': ('weights', path['other.pth'], 'other.pth'),
        'broken json': ('coco', path['broken.json'], 'broken.json'),
        'json of another kind': ('coco', path['list.json'], 'list.json'),
        'empty json': ('coco', path['void.json'], 'void.json'),
    }
