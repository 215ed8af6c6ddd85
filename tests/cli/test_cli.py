import os
import subprocess
import sys

import pytest

from tests.end_to_end.tiny_set import CONFIG, ROOT, environment, load_tool, run_tool


@pytest.fixture
def parse(monkeypatch):
    """Parse a command line with a tool's parser, without running it."""
    def parse(tool, *words):
        module = load_tool(tool)
        got = {}
        monkeypatch.setattr(module, 'run', lambda action: 0)
        monkeypatch.setattr(module, 'use_checkout', lambda: None)
        real = module.parse
        monkeypatch.setattr(module, 'parse', lambda *args: got.setdefault('args', real(*args)))
        module.main([str(word) for word in words])
        return got['args']
    return parse


@pytest.mark.parametrize('words', [
    ['c.py', '--work-dir', 'w', '--amp', 'fp16', '--cfg-options', 'a=1', 'b=2'],
    ['c.py', '--work_dir=w', '--fp16', '--options', 'a=1', '--cfg_options', 'b=2'],
])
def test_old_and_new_spellings_mean_the_same(parse, words):
    args = parse('train', *words)
    assert (args.config, args.work_dir, args.amp, args.cfg_options) == ('c.py', 'w', 'fp16', ['a=1', 'b=2'])


@pytest.mark.parametrize('words, amp, resume', [
    (['--amp', 'c.py'], 'auto', None),
    (['c.py', '--amp', '--resume'], 'auto', 'auto'),
    (['--resume', 'c.py', '--amp', 'bf16'], 'bf16', 'auto'),
    (['c.py', '--resume', 'epoch_1.pth'], None, 'epoch_1.pth'),
    (['c.py', '--resume_from', 'epoch_1.pth', '--amp=fp16'], 'fp16', 'epoch_1.pth'),
])
def test_optional_values_do_not_swallow_the_config(parse, words, amp, resume):
    args = parse('train', *words)
    assert (args.config, args.amp, args.resume) == ('c.py', amp, resume)


def test_arguments_of_the_old_launcher_and_of_mmdet_2(parse, monkeypatch, capsys):
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    args = parse('train', '--local_rank=1', 'c.py', '--launcher', 'pytorch', '--gpus', '8', '--eval')
    assert (os.environ.pop('LOCAL_RANK'), args.launcher, args.eval) == ('1', 'pytorch', [])
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 1 and '--gpus has no effect' in warnings[0]


def test_metrics_of_the_test(parse):
    args = parse('test', 'c.py', 'e.pth', '--eval', 'bbox', 'segm', '--out', 'f.json', '--format_only')
    assert (args.checkpoint, args.eval, args.out, args.format_only) == ('e.pth', ['bbox', 'segm'], 'f.json', True)
    assert parse('test', 'c.py', 'e.pth').eval is None


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_help_imports_nothing_heavy(tool):
    result = run_tool(tool, '--help', launcher=('-X', 'importtime'))
    assert result.returncode == 0 and '--cfg-options' in result.stdout
    assert not any(name in result.stderr for name in ('torch', 'mmengine', 'vitdet_plugin', 'numpy'))


def test_a_mistake_is_one_line_and_status_2(tmp_path):
    result = run_tool('train.py', CONFIG, '--cfg-options', 'modle.x=1', cwd=tmp_path)
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert [line for line in lines if line.startswith('error: ')] == [lines[-1]]
    assert 'did you mean model' in lines[-1] and 'Traceback' not in result.stderr
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_other_ranks_speak_only_if_the_first_does_not(monkeypatch, capsys):
    from vitdet_plugin.errors import UserError
    cli = load_tool('_cli')
    waited = []
    monkeypatch.setattr(cli.time, 'sleep', waited.append)

    def fail():
        raise UserError('no such GPU')

    monkeypatch.setenv('RANK', '0')
    assert cli.run(fail) == 2 and not waited
    monkeypatch.setenv('RANK', '3')
    assert cli.run(fail) == 2 and waited  # time for the launcher to end this rank if the first failed, too
    assert capsys.readouterr().err == 'error: no such GPU\nerror: rank 3: no such GPU\n'


@pytest.mark.parametrize('script, words, tail', [
    ('dist_train.sh', ['c.py', '4', '--amp'], 'train.py c.py --launcher pytorch --amp'),
    ('dist_test.sh', ['c.py', 'e.pth', '4', '--eval', 'bbox'], 'test.py c.py e.pth --launcher pytorch --eval bbox')])
def test_launch_scripts_pass_arguments_on(tmp_path, script, words, tail):
    """Everything after the positional arguments reaches the tool; a stand-in for Python shows the command."""
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
from _cli import leave
import torch
import torch.distributed as dist
atexit.register(print, 'handlers ran')
dist.init_process_group('gloo', init_method='file://' + sys.argv[2], rank=int(sys.argv[3]), world_size=2)
sys.modules['keep'] = dist.group.WORLD  # as sharded modules keep it
dist.barrier()
sys.setswitchinterval(1000)  # a thread that wants to let go of a tensor waits for the end
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
    """Taking the interpreter down aborts most of these runs: "terminate called without an active exception"."""
    ranks = [subprocess.Popen([sys.executable, '-c', LEAVING, str(ROOT / 'tools'), str(tmp_path / 'store'), str(rank)],
                              env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
             for rank in (0, 1)]
    outputs = [rank.communicate(timeout=240) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [3, 3], outputs
    assert all(output == 'done\nhandlers ran\n' for output, _ in outputs)
