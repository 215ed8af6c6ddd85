"""The ``vitdet`` command: arguments old and new, help, errors, exit status, launch scripts."""

import os
import subprocess
import sys

import pytest

import vitdet_plugin
from tests.cli.command_lines import COMMAND_NAMES
from tests.end_to_end.tiny_set import CONFIG, ROOT, environment, run_tool
from vitdet_plugin.cli import arguments, process, test, train
from vitdet_plugin.cli.main import COMMANDS, main


def vitdet(*words, python=(), **kwargs):
    """Run ``python -m vitdet_plugin`` with the checkout on the import path."""
    return subprocess.run([sys.executable, *python, '-m', 'vitdet_plugin', *map(str, words)], capture_output=True,
                          text=True, env=environment(PYTHONPATH=str(ROOT)), **kwargs)


@pytest.mark.parametrize('words', [
    ['c.py', '--work-dir', 'w', '--amp', 'fp16', '--cfg-options', 'a=1', 'b=2'],
    ['c.py', '--work_dir=w', '--fp16', '--options', 'a=1', '--cfg_options', 'b=2'],
])
def test_underscores_and_dashes_mean_the_same(words):
    args = train.parse_args(words)
    assert (args.config, args.work_dir, args.amp, args.cfg_options) == ('c.py', 'w', 'fp16', ['a=1', 'b=2'])


@pytest.mark.parametrize('words, amp, resume', [
    (['--amp', 'c.py'], 'auto', False),
    (['c.py', '--amp', '--resume'], 'auto', 'auto'),
    (['--resume', 'c.py', '--amp', 'bf16'], 'bf16', 'auto'),
    (['c.py', '--resume', 'epoch_1.pth'], None, 'epoch_1.pth'),
    (['c.py', '--resume_from', 'epoch_1.pth', '--amp=fp16'], 'fp16', 'epoch_1.pth'),
    (['--resume', 'vitdet_demo'], None, 'auto'),
    (['--resume', 'vitdet_plugin::vitdet_demo', '--amp'], 'auto', 'auto'),
])
def test_optional_values_do_not_consume_the_config(words, amp, resume):
    args = train.parse_args(words)
    assert args.config.rpartition('::')[2] in ('c.py', 'vitdet_demo')
    assert (args.amp, args.resume) == (amp, resume)


@pytest.mark.parametrize('words, config, resume', [
    (['c.py', '--resume', 'run'], 'c.py', 'run'), (['--resume', 'run', '--work-dir', 'new', 'c.py'], 'c.py', 'run'),
    (['run', '--resume_from', 'run', '--amp'], 'run', 'run'), (['--resume', 'run'], 'run', 'auto'),
    (['--amp', '--resume', 'run', '--work-dir', 'run'], 'run', 'auto'), (['c.py', '--resume=run'], 'c.py', 'run'),
])
def test_a_work_directory_after_resume(words, config, resume, tmp_path, monkeypatch):
    """It holds a copy of the config: it is the config if the command line has no other one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'c.py').touch()
    args = train.parse_args(words)
    assert (args.config, args.resume) == (config, resume)


def test_arguments_of_the_old_launcher_and_of_mmdet_2(monkeypatch, capsys):
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    args = train.parse_args(['--local_rank=1', 'c.py', '--launcher', 'pytorch', '--gpus', '8', '--eval'])
    assert (os.environ.pop('LOCAL_RANK'), args.launcher, args.eval) == ('1', 'pytorch', [])
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 1 and '--gpus has no effect' in warnings[0]


def test_metrics_of_the_test():
    parser = test.build_parser()
    args = arguments.parse(parser, ['c.py', 'e.pth', '--eval', 'bbox', 'segm', '--out', 'f.json', '--format_only'])
    assert (args.checkpoint, args.eval, args.out, args.format_only) == ('e.pth', ['bbox', 'segm'], 'f.json', True)
    assert arguments.parse(parser, ['c.py', 'e.pth']).eval is None


@pytest.mark.parametrize('command', [[], ['train'], ['convert'], ['demo']])
def test_help_imports_nothing_heavy(command):
    result = vitdet(*command, '--help', python=('-X', 'importtime'))
    assert result.returncode == 0 and result.stdout.startswith(f'usage: vitdet{"".join(f" {c}" for c in command)}')
    assert not any(f' {name}\n' in result.stderr for name in ('torch', 'mmengine', 'mmdet', 'numpy', 'cv2'))


def test_an_error_in_arguments_imports_nothing_heavy():
    for words in (['train', 'vitdet_demoo'], ['test', 'vitdet_demo', 'none.pth'], ['stats', 'nowhere'],
                  ['train', 'vitdet_demo', '--cfg-options', 'seed', '=', '1'], ['flops', 'c', '--cfg-options', 'a=[1']):
        result = vitdet(*words, python=('-X', 'importtime'))
        assert result.returncode == 2 and result.stderr.splitlines()[-1].startswith('error: ')
        assert ' torch\n' not in result.stderr


def test_help_describes_every_command(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    for name, summary in COMMANDS.items():
        assert f'{name:<13} {summary}' in shown


def test_the_version(capsys):
    assert main(['--version']) == 0
    assert capsys.readouterr().out == f'vitdet {vitdet_plugin.__version__}\n'


def test_an_unknown_command_suggests_similar_ones(capsys):
    assert main(['trian', 'c.py']) == 2
    assert capsys.readouterr().err.startswith("error: unknown command 'trian' (did you mean train?)")


def test_the_first_word_of_convert_selects_dataset_conversion(capsys):
    for words in (['convert', 'voc-to-coco', '--help'], ['demo', 'make-set', '--help']):
        with pytest.raises(SystemExit):
            main(words)
        assert capsys.readouterr().out.startswith(f'usage: vitdet {words[0]} {words[1]}')


def test_goldens_need_a_checkout(monkeypatch, tmp_path, capsys):
    from vitdet_plugin.cli import goldens
    monkeypatch.setattr(goldens.resources, 'files', lambda name: tmp_path / 'site-packages' / name)
    assert main(['goldens', str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith('error: vitdet goldens needs a source checkout')


def test_completion_offers_commands_options_and_names(monkeypatch):
    """With a replacement for argcomplete, which need not be installed."""
    from types import SimpleNamespace

    from vitdet_plugin.cli.main import complete
    parsers = []
    monkeypatch.setitem(sys.modules, 'argcomplete', SimpleNamespace(
        autocomplete=parsers.append, FilesCompleter=lambda: lambda prefix, **kwargs: [f'{prefix}.py']))
    complete()
    (choices,) = [action.choices for action in parsers[0]._actions if action.choices]
    assert sorted(choices) == COMMAND_NAMES
    assert '--load-from' in choices['train'].format_help()
    for command, dest, prefix, expected in (
            ('train', 'config', 'vitdet_d', ['vitdet_demo']), ('check', 'config', 'vitdet_d', ['vitdet_demo']),
            ('flops', 'configs', 'vitdet_d', ['vitdet_demo']), ('demo', 'config', 'make', ['make-set']),
            ('convert', 'source', 'voc', ['voc-to-coco'])):
        (action,) = [action for action in choices[command]._actions if action.dest == dest]
        assert action.completer(prefix, parsed_args=None) == [*expected, f'{prefix}.py']
    monkeypatch.setitem(sys.modules, 'argcomplete', None)
    complete()  # not installed: nothing happens


@pytest.mark.parametrize('value', ['-1', 'one', '1.5'])
def test_a_rank_that_is_not_a_number_from_0(value, capsys):
    with pytest.raises(SystemExit) as ended:
        main(['train', 'vitdet_demo', f'--local-rank={value}'])
    assert ended.value.code == 2 and f'--local-rank: {value}: give a number from 0' in capsys.readouterr().err


def test_the_old_launcher_puts_its_argument_first(monkeypatch):
    """``python -m torch.distributed.launch -m vitdet_plugin train`` gives ``--local-rank=0 train``."""
    monkeypatch.setattr(train, 'train_command', lambda args: args.local_rank)
    monkeypatch.setattr(process, 'check_inputs', lambda args: None)
    monkeypatch.setenv('LOCAL_RANK', '3')
    assert main(['--local-rank=3', 'train', 'c.py']) == 3


def test_an_error_is_one_line_and_status_2(tmp_path):
    result = run_tool('train.py', CONFIG, '--cfg-options', 'modle.x=1', cwd=tmp_path)
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert [line for line in lines if line.startswith('error: ')] == [lines[-1]]
    assert 'did you mean model' in lines[-1] and 'Traceback' not in result.stderr
    assert list(tmp_path.iterdir()) == []  # nothing was started


def test_other_ranks_print_errors_only_if_the_first_does_not(monkeypatch, capsys):
    from argparse import Namespace

    from vitdet_plugin.errors import UserError
    waited = []
    monkeypatch.setattr(process.time, 'sleep', waited.append)

    def fail(args):
        raise UserError('no such GPU')

    monkeypatch.setenv('RANK', '0')
    assert process.run(Namespace(), fail) == 2 and not waited
    monkeypatch.setenv('RANK', '3')
    assert process.run(Namespace(), fail) == 2 and waited  # time for the launcher to end this rank
    assert capsys.readouterr().err == 'error: no such GPU\nerror: rank 3: no such GPU\n'


@pytest.mark.parametrize('script, words, tail', [
    ('dist_train.sh', ['c.py', '4', '--amp'], 'train.py c.py --launcher pytorch --amp'),
    ('dist_test.sh', ['c.py', 'e.pth', '4', '--eval', 'bbox'], 'test.py c.py e.pth --launcher pytorch --eval bbox')])
def test_launch_scripts_pass_arguments_on(tmp_path, script, words, tail):
    """Everything after the positional arguments reaches the tool; echo replaces Python and shows the command."""
    result = subprocess.run([ROOT / 'tools' / script, *words], capture_output=True, text=True,
                            env=environment(PYTHON='echo', NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='7'))
    assert result.stdout.strip().endswith(tail)
    for part in ('--nnodes 2', '--node-rank 1', '--master-addr 10.0.0.1', '--master-port 7', '--nproc-per-node 4'):
        assert part in result.stdout
    assert subprocess.run([ROOT / 'tools' / script], capture_output=True).returncode == 2


def test_slurm_script(tmp_path):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    words = environment(PATH=f'{tmp_path}:{os.environ["PATH"]}', GPUS='4', SRUN_ARGS='--exclusive --mem 9G',
                        PYTHON=sys.executable)
    result = subprocess.run([ROOT / 'tools' / 'slurm_train.sh', 'part', 'job', 'c.py', 'work', '--amp'], text=True,
                            capture_output=True, env=words)
    assert '--partition part --job-name job --gres gpu:4 --ntasks 4 --ntasks-per-node 4' in result.stdout
    assert '--exclusive --mem 9G' in result.stdout
    assert result.stdout.strip().endswith('train.py c.py --work-dir work --launcher slurm --amp')


LEAVING = """
import atexit, sys, time
sys.path.insert(0, sys.argv[1])
from vitdet_plugin.cli.process import leave
import torch
import torch.distributed as dist
atexit.register(print, 'handlers ran')
dist.init_process_group('gloo', init_method='file://' + sys.argv[2], rank=int(sys.argv[3]), world_size=2)
sys.modules['keep'] = dist.group.WORLD  # as sharded modules keep it
dist.barrier()
sys.setswitchinterval(1000)  # a thread that releases a tensor waits for the end
for _ in range(20):
    dist.all_reduce(torch.ones(1000), async_op=True)
end = time.monotonic() + 1
while time.monotonic() < end:
    pass
dist.destroy_process_group()
print('done')
leave(3)
"""


def test_a_rank_leaves_with_its_status_while_threads_of_gloo_hold_tensors(tmp_path):
    """Finalizing the interpreter aborts most of these runs: "terminate called without an active exception"."""
    ranks = [subprocess.Popen([sys.executable, '-c', LEAVING, str(ROOT), str(tmp_path / 'store'), str(rank)],
                              env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
             for rank in (0, 1)]
    outputs = [rank.communicate(timeout=240) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [3, 3], outputs
    assert all(output == 'done\nhandlers ran\n' for output, _ in outputs)


def test_the_demo_names_the_folder_of_its_data_as_given(monkeypatch, tmp_path):
    from vitdet_plugin.cli import demo
    started = []
    monkeypatch.setattr(demo, 'vitdet', lambda *words, cwd: started.append((words, cwd)))
    demo.write_set(tmp_path / 'out')
    (((*words, folder), cwd),) = started
    assert words == ['demo', 'make-set', '--out'] and cwd / folder == folder == tmp_path / 'out/data/demo'
