"""``vitdet serve`` without its extra packages; tests/serving has the other cases."""

import sys

from vitdet_plugin.cli import serve


def test_a_missing_package_is_one_line(tmp_path, capsys, monkeypatch):
    for package in ('starlette', 'uvicorn', 'python_multipart'):
        monkeypatch.setitem(sys.modules, package, None)
    assert serve.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == ('error: vitdet serve requires the package python_multipart. Run pip install '
                                       '"vitdet-plugin[web]".\n')
