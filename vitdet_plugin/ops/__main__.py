"""Print which backend serves each operator and why each other one does not: python -m vitdet_plugin.ops."""

from vitdet_plugin.ops.dispatch import backend_info, format_info

if __name__ == '__main__':
    print(format_info(backend_info()))
