"""Every command line in the documents is valid, and every command answers --help.

The code blocks and the `commands within sentences` are checked. A word is

- a placeholder, if it is written in capitals: CONFIG, CHECKPOINT, DIR;
- a part of the checkout, if it begins with one of its folders: it must exist;
- otherwise a file of the reader (data, checkpoints, results), which cannot be checked here. Files that the page itself
  writes (`cat > "FILE" <<'END'`) exist. Folders below `runs/` and `data/` stand for those of `vitdet init`,
  `work_dirs/NAME` for the work directory of a shipped config.
"""

import ast
import importlib
import re
import shlex
import sys
from functools import lru_cache
from pathlib import Path

import pytest

from tests.end_to_end.tiny_set import ROOT, load_tool
from vitdet_plugin.cli import convert_dataset, demo
from vitdet_plugin.cli.main import COMMANDS, command_module
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.scaling.plan import KNOWN

PAGES = [path for path in sorted(ROOT.rglob('*.md')) if not {'work_dirs', '.pytest_cache', '.git'} & set(path.parts)]
TOOLS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'tools').rglob('*.py') if path.name != '_checkout.py')
COMMAND_LINES = [f'vitdet {name}' for name in COMMANDS]
MODULES = ('benchmarks', 'benchmarks.page', 'ops_dcnv3.build', 'vitdet_plugin.ops.build', 'vitdet_plugin.runtime')
FOLDERS = ('configs/', 'tools/', 'demo/', 'docs/', 'benchmarks/', 'tests/', 'vitdet_plugin/', 'requirements/')
OWN_TEMPLATE = 'vitdet_plugin::_base_/own_data/mask-rcnn_vitdet-tiny.py'
MAKEFILE = (ROOT / 'Makefile').read_text()
OURS = re.compile(r'(?:^|\s)(?:vitdet [a-z-]+|tools/[\w/]+\.(?:py|sh)|make|'
                  rf'python -m (?:vitdet_plugin|{"|".join(MODULES)}))(?:\s|$)')
SYNOPSIS = re.compile(r'[\[…|<]|\.\.\.')  # [optional], a|b, <name>, and so on
FOREIGN = ('tools/eval.py',)  # EasyCV's, in the table of other codebases
SCRIPTS = {'tools/dist_train.sh': ('tools/train.py', 1, 2), 'tools/dist_test.sh': ('tools/test.py', 2, 3)}


def command_lines(text: str) -> list[str]:
    """The lines of a page's code blocks and the spans of its sentences that start a command of this project."""
    fenced = r'```\w*\n.*?```'
    lines = []
    for block in re.findall(fenced, text, re.DOTALL):
        body = '\n'.join(block.splitlines()[1:-1])
        lines += re.sub(r'\s*\\\n\s*|\n\s{8,}(?=\[)', ' ', body).splitlines()  # continued with \ or, in a synopsis, [
    spans = [' '.join(span.split()) for span in re.findall(r'`([^`]+)`', re.sub(fenced, '', text, flags=re.DOTALL))]
    # a name alone is not a command line
    lines += [span for span in spans if ' ' in span and not re.fullmatch(r'vitdet [a-z-]+', span)]
    return [line for line in lines if OURS.search(line) and not any(name in line for name in FOREIGN)]


FOUND = [(str(page.relative_to(ROOT)), line) for page in PAGES for line in command_lines(page.read_text())]
EXACT = [pair for pair in FOUND if not SYNOPSIS.search(re.sub(r'"[^"]*"|\'[^\']*\'|#.*', '', pair[1]))]
OUTLINES = [pair for pair in FOUND if pair not in EXACT]


@lru_cache
def tool_of(name: str):
    """The module that implements ``vitdet <command>``, ``tools/<name>.py`` or ``python -m <name>``."""
    if name.startswith('vitdet '):
        return command_module(name.removeprefix('vitdet '))
    if name in MODULES:
        return importlib.import_module(f'{name}.__main__' if name in ('benchmarks', 'vitdet_plugin.runtime') else name)
    main = load_tool(name.removeprefix('tools/').removesuffix('.py')).main
    return sys.modules.get(getattr(main, 'func', main).__module__) or load_tool('setup_env')


def split_command(line: str) -> tuple[str, list[str]]:
    """The command and its arguments, without launchers and shell scripts."""
    words = shlex.split(line, comments=True)
    while re.match(r'[A-Z_]+=', words[0]) or words[0] == 'export':
        words.pop(0)
    if words[0] == 'torchrun' or words[1:3] == ['-m', 'torch.distributed.launch']:
        from torch.distributed.run import get_args_parser
        launched = get_args_parser().parse_args(words[1 if words[0] == 'torchrun' else 3:])
        module = ['-m'] if launched.module else []
        words = ['python', *module, launched.training_script, *launched.training_script_args]
    if words[0] == 'srun':
        words = words[words.index('python'):]
    if words[:3] == ['python', '-m', 'vitdet_plugin']:
        words = ['vitdet', *words[3:]]
    if words[0] == 'vitdet':
        name, rest = words[1] if len(words) > 1 else '--help', words[2:]
        return ('vitdet' if name.startswith('-') or name.isupper() else f'vitdet {name}'), rest
    if words[:2] == ['python', '-m']:
        return words[2], words[3:]
    name, *rest = words[1:] if words[0] == 'python' else words
    if name == 'tools/gpu_check_bare.sh':
        return 'vitdet gpu-check', [] if rest[0] == 'prepare' else rest[1:]
    if name == 'tools/slurm_train.sh':
        return 'tools/train.py', [rest[2], '--work-dir', rest[3], '--launcher', 'slurm', *rest[4:]]
    if name in SCRIPTS:
        name, configs, own = SCRIPTS[name]
        return name, [*rest[:configs], '--launcher', 'pytorch', *rest[own:]]
    return name, rest


def checkout_of(page: str, folder: Path) -> Path:
    """The checkout; if the page writes files into it, a copy of links below ``folder`` with these files."""
    written = re.findall(r"^cat > \"(.+)\" <<'END'\n(.*?)^END$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    for path, text in written:
        for parent in reversed(Path(path).parents):
            (folder / parent).mkdir(exist_ok=True)
            for entry in (ROOT / parent).iterdir():
                if entry.name not in Path(path).parts and not (folder / parent / entry.name).exists():
                    (folder / parent / entry.name).symlink_to(entry)
        (folder / path).write_text(text)
    return folder if written else ROOT


def check_words(name: str, words: list[str], root: Path = ROOT) -> None:
    """The command accepts the words, its config loads with the given changes, and files of the checkout exist."""
    tool = tool_of(name)
    if tool is command_module('convert') and words[0] in convert_dataset.CONVERSIONS:
        tool = convert_dataset
    if tool is demo and words and words[0] in demo.PARTS:
        tool, words = demo.PARTS[words[0]], words[1:]
    parse_args = getattr(tool, 'parse_args', None)
    parse = getattr(tool, 'parse', lambda parser, argv: parser.parse_args(argv))
    args = parse_args(words) if parse_args else parse(tool.build_parser(), words)
    missing = [word for word in words if word.startswith(FOLDERS) and not (root / word).exists()]
    assert not missing
    configs = getattr(args, 'configs', None) or [getattr(args, 'config', None)]
    for config in map(str, filter(None, configs)):
        if not config.isupper():
            if config.startswith(('runs/', 'data/')):  # written by vitdet init, on a template
                config = OWN_TEMPLATE
            elif config.startswith('work_dirs/'):
                config = Path(config).parts[1]
                if config in ('NAME', 'plants'):  # of the reader
                    continue
            elif getattr(args, 'plan', False) and config in ('all', *KNOWN):
                continue
            path = root / config if (root / config).is_file() or config.startswith(FOLDERS) else config
            load_config(str(path), getattr(args, 'cfg_options', ()))


@pytest.mark.parametrize('page, line', EXACT)
def test_a_command_line_is_valid(page, line, tmp_path):
    name, words = split_command(line)
    if name == 'vitdet':
        return  # --help, --version, COMMAND
    if name != 'make':
        check_words(name, words, checkout_of(page, tmp_path))
        return
    *options, target = [word for word in words if '=' not in word]
    assert set(options) <= {'-s'}
    assert re.search(rf'^{target}:', MAKEFILE, re.MULTILINE), f'no such target: {target}'
    for variable, _, value in (word.partition('=') for word in words if '=' in word):
        assert f'$({variable})' in MAKEFILE
        if target in ('demo', 'bench'):
            check_words('tools/demo.py' if target == 'demo' else 'benchmarks', shlex.split(value))


@pytest.mark.parametrize('page, line', OUTLINES)
def test_a_synopsis_names_existing_options(page, line):
    command = re.search(r'vitdet ([a-z-]+)(?=\s|$)', line)
    if command:
        assert command[1] in COMMANDS
    name = command[0] if command else next(
        word for word in shlex.split(re.sub(r'[\[\]]', ' ', line)) if re.match(r'tools/|make', word))
    if name.endswith('.sh'):
        assert (ROOT / name).is_file()
        return
    if name == 'make':
        return
    known = re.findall(r'--[a-z-]+', tool_of(name).build_parser().format_help())
    assert set(re.findall(r'(?<=[\s\[])--[a-z-]+', line.split(name)[1])) <= set(known)


def test_the_documents_name_existing_commands_and_all_of_them():
    named = {name for page in PAGES for name in re.findall(r'(?<![.\w])vitdet ([a-z][a-z-]*)', page.read_text())}
    assert named <= set(COMMANDS)
    assert not named or set(COMMANDS) - {'init'} <= named


def test_the_documents_have_command_lines_of_all_kinds():
    started = {split_command(line)[0] for _, line in EXACT}
    assert len(EXACT) > 60 and len(OUTLINES) >= 3
    assert {'make', *MODULES} <= started and {'tools/train.py', 'vitdet train'} & started
    assert not started - {'make', 'vitdet', *COMMAND_LINES, *MODULES, *TOOLS}


@pytest.mark.parametrize('line', [
    'python tools/train.py configs/vitdet_1000e.py', 'vitdet train vitdet_1000e', 'vitdet trein CONFIG',
    'vitdet cam CONFIG CHECKPOINT IMAGES --no-such', 'tools/dist_train.sh configs/vitdet_100e.py 8 --ampp',
    'torchrun --nproc 8 --no-such tools/train.py CONFIG', 'python tools/test.py',
    'python tools/train.py configs/vitdet_demo.py --cfg-options train_cfg.max_iter=3',
    'python tools/train.py "configs/my seedlings.py"', 'make demo ARGS=configs/none.py',
    'vitdet train vitdet_demoo', 'vitdet trian vitdet_demo', 'vitdet convert voc-to-coco', 'vitdet predict CONFIG'])
def test_an_invalid_command_line_is_found(line, tmp_path):
    assert command_lines(f'```bash\n{line}\n```') == [line]
    with pytest.raises((UserError, SystemExit, AssertionError, ModuleNotFoundError, KeyError, ValueError)):
        test_a_command_line_is_valid('README.md', line, tmp_path)


@pytest.mark.parametrize('name', [*TOOLS, *COMMAND_LINES, *MODULES])
def test_help(name, capsys):
    """Every command has a description, and a help text for each of its arguments."""
    parser = tool_of(name).build_parser()
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(['--help'])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith('usage: ') and len(parser.description or '') > 20
    commands = [action for action in parser._actions if action.choices and action.nargs == 'A...']
    unexplained = [action.dest for each in [parser, *(sub for action in commands for sub in action.choices.values())]
                   for action in each._actions if not action.help and action not in commands]
    assert not unexplained


def checkout_files_in_strings(source: str) -> list[str]:
    """Strings, except docstrings, that name a file of the checkout which is not in the wheel."""
    tree = ast.parse(source)
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
            and id(node) not in statements and re.search(r'\.md\b|\.sh\b|\b(docs|tools|tests|configs)/', node.value)]


def test_messages_name_no_file_of_the_checkout():
    allowed = ['vitdet goldens needs a source checkout: the installed package does not contain tests/parity']
    paths = [path for folder in ('vitdet_plugin', 'ops_dcnv3') for path in (ROOT / folder).rglob('*.py')
             if path.name != 'huggingface.py']  # names the README.md of a data set
    found = {path.name: named for path in paths if (named := checkout_files_in_strings(path.read_text()))}
    assert found == {'goldens.py': allowed}
    configs = [path for path in (ROOT / 'configs').rglob('*.py') if re.search(r'tools/|make demo', path.read_text())]
    assert not configs
    assert checkout_files_in_strings('"""See docs/a.md."""\nfail(f"{path}: see docs/a.md")') == [': see docs/a.md']
