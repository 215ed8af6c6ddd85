import pytest

from tests.end_to_end.tiny_set import load_tool


@pytest.fixture
def convert(capsys):
    """(exit code, lines of stdout, lines of stderr)."""
    tool = load_tool('dataset/convert')

    def run(*args):
        code = tool.main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()
    return run
