"""What pyproject.toml cannot say: where the configs go, and how the optional operators are built."""

import sys
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def optional_extensions() -> dict:
    """The compiled operators, where PyTorch (``--no-build-isolation``) and a compiler are. Never a reason to fail."""
    sys.path.insert(0, str(ROOT))
    try:
        from vitdet_plugin.ops.build import setup_options
        return setup_options()
    except Exception as error:
        print(f'compiled operators are left out ({type(error).__name__}: {error}); build them later with '
              'python -m vitdet_plugin.ops.build', file=sys.stderr)
        return {}


# configs/ stays at the top of the checkout, where people look for it, and becomes vitdet_plugin/configs in a wheel
setup(
    packages=[*find_packages(str(ROOT), include=['vitdet_plugin', 'vitdet_plugin.*', 'ops_dcnv3', 'ops_dcnv3.*']),
              'vitdet_plugin.configs'],
    package_dir={'vitdet_plugin.configs': 'configs'},
    package_data={'': ['*.json', '*.txt', '*.yml', '*.safetensors', 'csrc/**/*'],
                  'vitdet_plugin.configs': ['**/*.py', '**/*.md', '**/*.yml'],
                  'ops_dcnv3': ['README.md', 'csrc/**/*']},
    **optional_extensions(),
)
