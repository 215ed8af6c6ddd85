"""Command lines of every subcommand, with names of valid files in braces; test_user_mistakes.py replaces one at a time.

A new subcommand needs an entry in LINES; the test that discovers the commands requires it.
"""

import json
from pathlib import Path

import torch

from tests.end_to_end.tiny_classes import CLASSES, write_tiny_classes
from tests.end_to_end.tiny_set import CONFIG, ROOT, write_tiny_set
from tests.security.hostile import checkpoint
from vitdet_plugin.cli.main import COMMANDS

# names in braces: input files of these kinds, and {out}, a path to write to
LINES = {
    'bench': ['{config} {weights} --images {images} --backends pytorch --out {out}.csv'],
    'browse': ['{config} --out {out}'],
    'cam': ['{config} {weights} {images} --out {out}'],
    'check': ['{coco} --images {images}', '{classes} --json {out}', '--config {config}'],
    'convert': ['{weights} {out}.pth', '{weights} {out}.safetensors --config {config}',
                '{weights} {out}.pth --classes-from {names} --classes-to {names}',
                'to-coco {folder} --out {out}', 'voc-to-coco {folder} --out {out}',
                'yolo-to-coco {folder} --classes a,b --out {out}', 'coco-to-yolo {coco} --out {out}',
                'coco-to-voc {coco} --out {out}'],
    'curves': ['{log} --out {out}.png'],
    'demo': ['{config}', 'make-set --train 1 --val 1 --out {out}',
             'pretrain --config {config} --data {out} --out {out}.safetensors --images 2 --steps 1'],
    'export': ['{config} {weights} --out {out}.onnx', '{config} {weights} --format torch-export --out {out}.pt2'],
    'flops': ['{config} --repeats 0 --no-trace --json {out}'],
    'goldens': ['{cases}'],
    'gpu-check': [],  # it reads no files
    'init': ['{folder} --out {out}', '{coco} --out {out} --model tiny'],
    'mean-std': ['{classes} --out {out}', '{images} --ann {coco} --out {out}'],
    'predict': ['{config} {weights} {images} --out {out}'],
    'report': ['{config} {weights} --out {out}'],
    'serve': ['{config} {weights} --port 0'],
    'split': ['{classes} --out {out}', '{classes} --groups {table} --out {out}'],
    'stats': ['{classes} --out {out}', '{images} --ann {coco} --out {out}'],
    'test': ['{config} {weights} --work-dir {out}', '{config} {weights} --out {out}.json'],
    'token-labels': ['{config} {weights} {images} --out {out}'],
    'train': ['{config} --work-dir {out}', '{config} --work-dir {out} --load-from {weights}',
              '{config} --work-dir {out} --resume {state}', '{config} --work-dir {out} --weights {weights}'],
    'weights': [],  # it reads no files that are given
}
# every script in tools/ -> the command that it runs
TOOLS = {
    'analysis/cam': 'cam', 'analysis/get_flops': 'flops', 'analysis/plot_curves': 'curves',
    'analysis/report': 'report', 'check_goldens': 'goldens', 'dataset/browse': 'browse', 'dataset/check': 'check',
    'dataset/convert': 'convert', 'dataset/make_demo_set': 'demo make-set', 'dataset/mean_std': 'mean-std',
    'dataset/split': 'split', 'dataset/stats': 'stats', 'dataset/token_labels': 'token-labels', 'demo': 'demo',
    'export/onnx': 'export', 'model_converters/convert': 'convert', 'predict': 'predict',
    'pretrain_demo': 'demo pretrain', 'test': 'test', 'train': 'train',
    'weights': 'weights',
}
COMMAND_NAMES = sorted(COMMANDS)


def discover_tools() -> list[str]:
    """Names of all scripts that run a command, such as ``dataset/check``."""
    tools = ROOT / 'tools'
    return sorted(path.relative_to(tools).with_suffix('').as_posix() for path in tools.rglob('*.py')
                  if path.name not in ('_checkout.py', 'setup_env.py'))


def write_files(folder: Path) -> dict[str, str]:
    """Write a valid file for every name in braces; returns their paths."""
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
                state=str(folder / 'state.pth'), images=str(folder / 'set' / 'images'),
                coco=str(folder / 'set' / 'coco.json'), folder=str(folder / 'set'), cases=str(folder / 'cases'),
                classes=str(folder / 'classes' / 'train'), log=str(folder / 'scalars.json'),
                names=str(folder / 'names.txt'), table=str(folder / 'table.csv'))


def write_invalid(folder: Path, good: dict[str, str]) -> dict[str, tuple[str, str, str]]:
    """Write invalid files; returns mistake -> (its name in braces, the invalid file, text that the message has)."""
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
        'config with a syntax error': ('config', path['syntax.py'], 'syntax.py, line '),
        'unregistered name': ('config', path['near.py'], 'did you mean ViTDet'),
        'missing import': ('config', path['lost import.py'], "custom_imports=dict(imports=['vitdet_plugin']"),
        'config without a model': ('config', path['nothing.py'], 'nothing.py'),
        'truncated checkpoint': ('weights', path['cut.pth'], 'cut.pth'),
        'empty checkpoint': ('weights', path['empty.pth'], 'empty.pth'),
        'checkpoint that is a text file': ('weights', path['text.pth'], 'text.pth'),
        'checkpoint of another model': ('weights', path['other.pth'], 'other.pth'),
        'broken json': ('coco', path['broken.json'], 'broken.json'),
        'json of another type': ('coco', path['list.json'], 'list.json'),
        'empty json': ('coco', path['void.json'], 'void.json'),
    }
