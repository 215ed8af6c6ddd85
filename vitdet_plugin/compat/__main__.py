"""Print every patch of the stack: ``python -m vitdet_plugin.compat``."""

import sys

from vitdet_plugin import register_all
from vitdet_plugin.compat import report
from vitdet_plugin.errors import UserError


def main() -> int:
    try:
        register_all()
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    for record in report():
        print(f'{record.target}\n    why:       {record.why}\n    upstream:  {record.upstream}\n'
              f'    installed: {"yes" if record.installed else "no"}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
