"""Words of messages."""

import pytest

from vitdet_plugin.utils.text import counted


@pytest.mark.parametrize(('count', 'noun', 'text'), [
    (0, 'image', '0 images'), (1, 'image', '1 image'), (2, 'image', '2 images'), (1, 'class', '1 class'),
    (12, 'class', '12 classes')])
def test_a_number_with_its_noun(count, noun, text):
    assert counted(count, noun) == text
