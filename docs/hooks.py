"""MkDocs hooks: pages from other folders of the repository, API reference pages, and links between them.

The README files and the documents at the top of the repository are read where they are, so there is one copy of each.
The API reference has one page for each subpackage, made from its docstrings, with every public module in it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# page of the site -> file of the repository
PAGES = {
    'index.md': 'README.md', 'contributing.md': 'CONTRIBUTING.md', 'changelog.md': 'CHANGELOG.md',
    'security.md': 'SECURITY.md', 'data.md': 'data/README.md', 'requirements.md': 'requirements/README.md',
    'dcnv3.md': 'ops_dcnv3/README.md', 'models/index.md': 'docs/models.md',
    **{f'models/{path.parent.name}.md': str(path.relative_to(ROOT))
       for path in sorted(ROOT.glob('configs/*/README.md'))},
}
SOURCES = {source: page for page, source in PAGES.items()}
REFERENCE = ('api', 'backbones', 'necks', 'heads', 'layers', 'ops', 'checkpoints', 'transforms', 'datasets', 'engine',
             'evaluation', 'visualization', 'export', 'prediction', 'compat')
IMAGES = ('.jpg', '.png')
LINK = re.compile(r'\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]*)(#[^)\s]*)?\)')


def modules(name: str) -> list[str]:
    """Dotted names of a subpackage and its public modules; empty if it does not exist."""
    base = ROOT / 'vitdet_plugin' / name
    if base.with_suffix('.py').is_file():
        return [f'vitdet_plugin.{name}']
    found = []
    for path in sorted(base.rglob('*.py')):
        parts = path.relative_to(ROOT).with_suffix('').parts
        if parts[-1] == '__init__':
            parts = parts[:-1]
        if not any(part.startswith('_') for part in parts):
            found.append('.'.join(parts))
    return sorted(found)


def reference_page(name: str) -> str:
    """Markdown of the API page of one subpackage."""
    return '\n\n'.join([f'# vitdet_plugin.{name}', *(f'::: {module}' for module in modules(name))]) + '\n'


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the model families and the API pages to the navigation."""
    families = [page for page in PAGES if page.startswith('models/') and page != 'models/index.md']
    added = {'Models': ['models/index.md', *families],
             'API reference': [{f'vitdet_plugin.{name}': f'reference/{name}.md'}
                               for name in REFERENCE if modules(name)]}
    config.nav = [{title: added.get(title, page)} for entry in config.nav for title, page in entry.items()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    files.remove(files.src_uris['models.md'])
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding='utf-8')))
    for name in REFERENCE:
        if modules(name):
            files.append(File.generated(config, f'reference/{name}.md', content=reference_page(name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at pages and images of the site; links to other files of the repository become plain text."""
    uri = page.file.src_uri
    folder = (ROOT / PAGES.get(uri, f'docs/{uri}')).parent

    def target(match: re.Match) -> str:
        text, path, anchor = match[1], match[2], match[3] or ''
        if not path or '://' in path:
            return match[0]
        resolved = Path(os.path.normpath(folder / path))
        if resolved.is_dir():
            resolved = resolved / 'README.md'
        if not resolved.is_relative_to(ROOT) or not (ROOT / resolved).exists():
            return text if (folder / path).exists() else match[0]
        source = resolved.relative_to(ROOT).as_posix()
        found = SOURCES.get(source) or (source.removeprefix('docs/') if source.startswith('docs/') else None)
        if found is None or not found.endswith(('.md', *IMAGES)):
            return text
        return f'[{text}]({os.path.relpath(found, os.path.dirname(uri) or ".")}{anchor})'

    parts = re.split(r'(^```.*?^```$)', markdown, flags=re.DOTALL | re.MULTILINE)
    return ''.join(part if part.startswith('```') else LINK.sub(target, part) for part in parts)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Docstrings name classes as :class:`Name`; the site shows the name alone."""
    return re.sub(r':(?:class|meth|func|mod|attr):(?=<code>)', '', html)
