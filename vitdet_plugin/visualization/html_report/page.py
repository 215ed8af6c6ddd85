"""The frame of the page: head, title, main metrics, navigation, sections."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from xml.etree.ElementTree import Element

from vitdet_plugin.visualization.html_report.elements import Content, tag, to_html

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_ICON = 'data:,'  # browsers would otherwise request one


def render(title: str, about: Content, cards: Sequence[tuple[str, str]], sections: Sequence[Element]) -> str:
    """Return the text of a page that needs no other file.

    Args:
        title: Heading of the page.
        about: Elements below the heading.
        cards: Names and values of the main metrics.
        sections: Results of :func:`.elements.section`.
    """
    head = tag('head', tag('meta', charset='utf-8'),
               tag('meta', name_='viewport', content_='width=device-width, initial-scale=1'),
               tag('meta', http_equiv='Content-Security-Policy', content_=_POLICY),
               tag('title', title), tag('link', rel='icon', href=_ICON), tag('style', _resource('page.css')))
    links = [tag('li', tag('a', each.findtext('h2') or '', href=f'#{each.get("id")}')) for each in sections]
    body = tag('body', tag('header', tag('h1', title), about,
                           tag('ul', [tag('li', tag('b', value), tag('span', name)) for name, value in cards],
                               class_='cards') if cards else None),
               tag('nav', tag('ul', links), aria_label='sections'), tag('main', list(sections)),
               tag('footer', 'Written by vitdet report.'), tag('script', _resource('page.js')))
    return f'<!DOCTYPE html>\n{to_html(tag("html", head, body, lang="en"))}\n'


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding='utf-8')
