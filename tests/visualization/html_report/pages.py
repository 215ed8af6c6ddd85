"""Read a report: its structure by Python's HTML parser, its behavior in a headless Chromium."""

import shutil
import subprocess
from html.parser import HTMLParser

_VOID = {'meta', 'link', 'img', 'br'}
_PROBE = """<script>
addEventListener('load', () => {
  const images = [...document.images];
  const loaded = images.filter(image => image.complete && image.naturalWidth > 0).length;
  const heading = document.querySelector('.sortable thead th:nth-child(2)');
  heading.click();
  const body = heading.closest('table').tBodies[0];
  const cells = [...body.rows].map(row => Number(row.cells[1].textContent));
  const wide = document.documentElement.scrollWidth > innerWidth;
  document.title = `${loaded} of ${images.length} images, sorted ${cells.join(' ')}, ${wide ? 'too wide' : 'fits'}`;
});
</script>"""


class Page(HTMLParser):
    """Elements of a page, which is checked to be balanced, to have unique ids and to need no other file.

    Attributes:
        titles: Texts of the headings of sections.
        texts: All other texts.
        count: Number of elements of each tag.
        sections: Text of each section by its title.
    """

    def __init__(self, text):
        super().__init__()
        self.titles, self.texts, self.ids, self.count, self.sections = [], [], [], {}, {}
        self._open = []
        assert text.startswith('<!DOCTYPE html>')
        self.feed(text)
        self.close()
        assert self._open == [] and len(self.ids) == len(set(self.ids))
        for name in ('h1', 'main', 'nav', 'style', 'script', 'body'):
            assert self.count[name] == 1, name

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in _VOID:
            self._open.append(tag)
        if 'id' in attrs:
            self.ids.append(attrs['id'])
        for name in ('src', 'href', 'srcset', 'data', 'action'):
            assert attrs.get(name, '#').startswith(('data:', '#')), attrs
        assert not [name for name in attrs if name.startswith('on')], attrs
        if tag == 'img':
            assert attrs['alt'] and len(attrs['src']) > 200

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] == 'h2':
            self.titles.append(data)
            self.sections[data] = ''
        elif self._open and self._open[-1] not in ('style', 'script'):
            self.texts.append(data)
            if self.titles:
                self.sections[self.titles[-1]] += data + '\n'


def chromium():
    """Return the path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)


def open_in_browser(page, folder, width=400):
    """Open a page with a probe; returns its findings and the lines of the console."""
    probed = folder / 'probed.html'
    probed.write_text(page.replace('</body>', f'{_PROBE}</body>'), encoding='utf-8')
    done = subprocess.run(
        [chromium(), '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--disable-sync', '--enable-logging=stderr',
         f'--user-data-dir={folder / "profile"}', f'--window-size={width},900', '--dump-dom', probed.as_uri()],
        capture_output=True, text=True, timeout=300)
    title = done.stdout.partition('<title>')[2].partition('</title>')[0]
    return title, [line for line in done.stderr.splitlines() if 'CONSOLE' in line]
