"""Options of mmdet 2 and EasyCV work, or one line says what to use instead."""

import pytest

from vitdet_plugin.cli import arguments, browse, test, train


def parse(command, line):
    return train.parse_args(line.split()) if command == 'train' else arguments.parse(test.build_parser(), line.split())


@pytest.mark.parametrize('line, name, value', [
    ('--options a=1 b=2', 'cfg_options', ['a=1', 'b=2']), ('--user_config_params a=1', 'cfg_options', ['a=1']),
    ('--cfg-options a=1 --options b=2', 'cfg_options', ['a=1', 'b=2']), ('', 'cfg_options', []),
    ('--auto-resume', 'resume', 'auto'), ('--resume_from x.pth', 'resume', 'x.pth'), ('', 'resume', False),
    ('--pretrain x.pth', 'load_from', 'x.pth'), ('--load_from x.pth', 'load_from', 'x.pth'), ('', 'load_from', None),
    ('--autoscale-lr', 'auto_scale_lr', True), ('--no-validate', 'validate', False), ('', 'validate', True),
    ('--local_rank 1', 'local_rank', 1), ('--deterministic', 'deterministic', True)])
def test_names_that_work(line, name, value, monkeypatch, capsys):
    monkeypatch.setenv('LOCAL_RANK', '0')
    assert getattr(parse('train', f'c.py {line}'), name) == value
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize('command, line', [
    ('train', 'c.py --gpus 2'), ('train', 'c.py --gpu_ids 0 1'), ('train', '--gpus 2 c.py'),
    ('train', 'c.py --validate'),
    ('test', 'c.py x.pth --gpu-id 0'), ('test', 'c.py x.pth --gpu-collect'), ('test', '--tmpdir t c.py x.pth'),
    ('test', 'c.py x.pth --fuse-conv-bn')])
def test_options_without_effect(command, line, capsys):
    assert parse(command, line).config == 'c.py'
    (text,) = capsys.readouterr().err.splitlines()
    option = next(word for word in line.split() if word.startswith('--')).replace('_', '-')
    assert text.startswith(f'warning: {option} has no effect: ')


@pytest.mark.parametrize('command, line, says', [
    ('train', 'c.py --diff-seed', 'randomness.diff_rank_seed=True'), ('train', 'c.py --port 1', '--master-port'),
    ('test', 'c.py x.pth --fp16 --dtype bf16', 'use --dtype fp16'), ('test', 'c.py x.pth --amp', 'use --dtype auto'),
    ('train', 'c.py --show', 'unrecognized arguments: --show'), ('test', 'c.py x.pth --show', 'use --show-dir DIR'),
    ('test', 'c.py x.pth --metrics=bbox', 'use --eval METRIC'),
    ('test', 'c.py x.pth --no-pin-memory', 'use --cfg-options SPLIT_dataloader.pin_memory=False'),
    ('train', 'c.py --no-persistent-workers', 'use --cfg-options SPLIT_dataloader.persistent_workers=False'),
    ('test', 'c.py x.pth --out a.json --out-item metric', 'invalid choice'),
    ('train', 'c.py --pretrain', 'expected one argument'), ('train', 'c.py --launcher ssh', 'invalid choice')])
def test_options_with_another_name(command, line, says, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(command, line)
    assert caught.value.code == 2 and says in capsys.readouterr().err.splitlines()[-1]


def test_the_old_names_are_not_in_the_help():
    text = train.build_parser().format_help() + browse.build_parser().format_help()
    assert not any(old in text for old in ('--gpus', '--user-config-params', '--pretrain', '--auto-resume'))
