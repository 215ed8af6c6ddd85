"""The project's prose: standard terms and American spelling, as listed in CONTRIBUTING.md (Style).

Run as a script it prints every finding: ``python tests/test_language.py [PATH …]``.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SUFFIXES = ('.py', '.md', '.toml', '.yml', '.sh', '.cpp', '.cu', '.h', '.txt', '')
# pattern -> what to write instead; parts of identifiers count as words
WORDS = {
    r'pictures?|pictured': 'image (figure for plots)',
    r'anew': 'again, re-initialized, regenerate',
    r'lest|whoever|heirs?|chatter|tid(?:y|ies|ied)': 'say it directly',
    r'mend(?:s|ed|ing)?': 'fix',
    r'spellings?': 'key names, naming scheme, form',
    r'rooms?(?! (?:for|on|in)\b)|houses?|cellar': 'subpackage, module',
    r'wants|wanted': 'requires, expects',
    r'knows|sees|speaks up|tells of|told apart': 'stores, receives, reports, raises, distinguished',
    r'beside': 'next to, alongside',
    r'is no (?:multiple|number|integer|picture|image|checkpoint)|no numbers?\b(?! of)': 'is not a multiple, non-finite',
    r'(?:is|are) not there\b': 'is not available, does not exist',
    r'as it stands': 'reference implementation',
    r"of one's own|seen by nobody": 'custom, not visible',
    r'colou(?:r|rs|red|ring)(?<=our)\w*|colours?\w*': 'color',
    r'behaviours?|favour\w*|neighbours?\w*|grey\w*|centres?|centred|metres?': 'American spelling',
    r'(?:normal|optim|recogn|initial|serial|material|real|general|organ|summar|special|minim|maxim|categor|regular|'
    r'quant|parametr|penal|visual|custom|util|synchron|stabil|final|emphas|token|random|vector|local|equal)is'
    r'(?:e|es|ed|er|ers|ing|ation|ations|able)': 'American spelling (-ize)',
    r'labell(?:ed|ing)|modell(?:ed|ing)|cancell(?:ed|ing)|licence|artefacts?|catalogue|programme|analyse[ds]?':
        'American spelling',
}
# words that other projects' names contain, and this file
ALLOWED = re.compile(r'LICENSE')
PATTERN = re.compile('|'.join(rf'(?P<w{index}>(?<![A-Za-z])(?:{pattern})(?![a-z]))'
                              for index, pattern in enumerate(WORDS)), re.IGNORECASE)
ADVICE = list(WORDS.values())


def findings(paths: list[Path]) -> list[str]:
    found = []
    for path in paths:
        for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
            for match in PATTERN.finditer(line):
                if ALLOWED.search(line) or 'language: ok' in line:
                    continue
                advice = ADVICE[int(match.lastgroup[1:])]
                found.append(f'{path}:{number}: "{match[0]}": write {advice}: {line.strip()[:100]}')
    return found


def project_files(root: Path) -> list[Path]:
    names = subprocess.run(['git', 'ls-files'], cwd=root, capture_output=True, text=True, check=True).stdout.split('\n')
    skipped = ('LICENSE', 'tests/test_language.py')
    return [root / name for name in names if name and name not in skipped and Path(name).suffix in SUFFIXES
            and (root / name).is_file() and not (root / name).is_symlink()]


def test_the_project_uses_standard_terms():
    if not (ROOT / '.git').exists():
        pytest.skip('not a git checkout: the list of files is unknown')
    assert findings(project_files(ROOT)) == []


@pytest.mark.parametrize('text', ['a picture', 'max_pictures = 3', 'optimiser', 'drawn anew', 'is no multiple of 4'])
def test_an_idiom_is_found(tmp_path, text):
    path = tmp_path / 'a.py'
    path.write_text(text)
    assert len(findings([path])) == 1


def test_plain_text_passes(tmp_path):
    path = tmp_path / 'a.py'
    path.write_text('the image, its neighbor, make room for it, a factor of 2, center, "optimizer"')
    assert findings([path]) == []


if __name__ == '__main__':
    given = [Path(name) for name in sys.argv[1:]]
    files = [each for each in project_files(ROOT) if not given or any(
        each == path.resolve() or path.resolve() in each.parents for path in given)]
    for line in findings(files):
        print(line)
