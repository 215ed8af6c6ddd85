"""mmdet's own inferencer behaves the same with and without the plugin."""

import json
import subprocess
import sys


def test_det_inferencer_is_unchanged(tmp_path):
    done = subprocess.run([sys.executable, '-m', 'tests.compat.mmdet_inferencer', str(tmp_path)], capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    without, with_plugin = (json.loads((tmp_path / f'{name}.json').read_text()) for name in (False, True))
    assert without.keys() == {'state dict', 'config of the file'}
    assert with_plugin == without
    for found in with_plugin.values():
        assert found['model'] == 'MaskRCNN' and len(found['scores']) > 0
    assert with_plugin['config of the file']['classes'] == ['a', 'b', 'c']
