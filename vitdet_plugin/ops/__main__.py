"""Print the backend of each operator, and why the others are not used: python -m vitdet_plugin.ops."""

from vitdet_plugin.ops.dispatch import backend_info, format_info

if __name__ == '__main__':
    print(format_info(backend_info()))
