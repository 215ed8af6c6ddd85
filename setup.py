"""Options that pyproject.toml cannot express: folders of configs and demo, optional compiled operators."""

import sys
import tempfile
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def optional_extensions() -> dict:
    """Return options for compiled operators; empty without PyTorch (``--no-build-isolation``) or a compiler."""
    sys.path.insert(0, str(ROOT))
    try:
        from vitdet_plugin.ops.build import setup_options
        return setup_options()
    except Exception as error:
        print(f'compiled operators are left out ({type(error).__name__}: {error}); build them later with '
              'python -m vitdet_plugin.ops.build', file=sys.stderr)
        return {}


# a new folder for every build: modules that an older version left in build/lib would go into the wheel
build_folder = tempfile.TemporaryDirectory()

# configs/ and demo/ are folders of the checkout, and vitdet_plugin/configs and vitdet_plugin/demo in a wheel;
# in the checkout these are symbolic links
setup(
    packages=[*find_packages(str(ROOT), include=['vitdet_plugin', 'vitdet_plugin.*', 'ops_dcnv3', 'ops_dcnv3.*'],
                             exclude=['vitdet_plugin.demo']),
              'vitdet_plugin.configs', 'vitdet_plugin.demo'],
    package_dir={'vitdet_plugin.configs': 'configs', 'vitdet_plugin.demo': 'demo'},
    package_data={'': ['*.json', '*.txt', '*.yml', '*.safetensors', '*.css', '*.js', 'py.typed', 'csrc/**/*'],
                  'vitdet_plugin.configs': ['**/*.py', '**/*.md', '**/*.yml'],
                  'vitdet_plugin.serving': ['static/*'],
                  'ops_dcnv3': ['README.md']},
    options={'build': {'build_base': build_folder.name}},
    **optional_extensions(),
)
