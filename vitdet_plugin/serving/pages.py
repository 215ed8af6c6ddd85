"""Files of the page. They are in the package: the page loads nothing from other servers."""

from pathlib import Path

_FOLDER = Path(__file__).with_name('static')
_TYPES = {'.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8',
          '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml'}


def read_pages() -> dict[str, tuple[bytes, str]]:
    """Return content and media type of each file by its path in URLs."""
    files = {f'/static/{path.name}': path for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}
    files['/'] = _FOLDER / 'index.html'
    return {url: (path.read_bytes(), _TYPES[path.suffix]) for url, path in files.items()}
