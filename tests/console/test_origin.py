"""Whose page a websocket's Origin says it is."""

from __future__ import annotations

import pytest

from izvor_project.console.relay import is_own


@pytest.mark.parametrize(
    ("origin", "host", "trusted", "is_ours"),
    [
        ("http://izvor.example", "izvor.example", [], True),
        ("https://izvor.example", "izvor.example", [], True),
        ("https://izvor.example:444", "izvor.example", [], False),
        ("https://izvor.example", "inner:8082", [], False),
        ("https://izvor.example", "inner:8082", ["https://izvor.example"], True),
        ("https://a.izvor.example", "inner:8082", ["https://*.izvor.example"], True),
        ("http://a.izvor.example", "inner:8082", ["https://*.izvor.example"], False),
        ("https://evil.example", "inner:8082", ["https://*.izvor.example"], False),
        ("file://", "izvor.example", [], False),
    ],
)
def test_whose_origin_is_ours(origin, host, trusted, is_ours, settings):
    settings.CSRF_TRUSTED_ORIGINS = trusted
    assert is_own(origin, host) is is_ours
