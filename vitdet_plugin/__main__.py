"""``python -m vitdet_plugin``: the same as the ``vitdet`` command."""
# PYTHON_ARGCOMPLETE_OK

from vitdet_plugin.cli.main import run_and_exit

if __name__ == '__main__':
    run_and_exit()
