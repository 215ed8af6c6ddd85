"""What pyproject.toml cannot say: where the configs go, and later how the optional operators are built."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def optional_extensions() -> list:
    """Compiled operators. None yet; whatever is added here must never make an installation fail."""
    return []


# configs/ stays at the top of the checkout, where people look for it, and becomes vitdet_plugin/configs in a wheel
setup(
    packages=[*find_packages(str(ROOT), include=['vitdet_plugin', 'vitdet_plugin.*', 'ops_dcnv3', 'ops_dcnv3.*']),
              'vitdet_plugin.configs'],
    package_dir={'vitdet_plugin.configs': 'configs'},
    package_data={'': ['*.json', '*.txt', '*.yml', '*.safetensors'],
                  'vitdet_plugin.configs': ['**/*.py', '**/*.md', '**/*.yml']},
    ext_modules=optional_extensions(),
)
