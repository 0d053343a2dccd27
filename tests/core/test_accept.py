"""Which form an `Accept` header asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.accept import JSON, OPENMETRICS, TEXT, Form, preferred

OFFERED = (JSON, TEXT, OPENMETRICS)
# What Prometheus 2.42 and 3.5 say.
SCRAPES = [
    (
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
        "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    ),
    (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,"
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    ),
]


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", JSON),
        (" , ;q=1,", JSON),
        ("*/*", JSON),
        ("application/json", JSON),
        ("text/plain", TEXT),
        ("TEXT/Plain ; Charset=utf-8", TEXT),
        ("text/*", TEXT),
        ("application/*", JSON),
        ("text/plain;version=0.0.4", TEXT),
        ('text/plain;version="0.0.4"', TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", OPENMETRICS),
        # another version of it is another form
        ("application/openmetrics-text;version=0.0.1", None),
        ("application/openmetrics-text;version=0.0.1, text/plain;q=0.1", TEXT),
        ("text/plain;version=1.0.0, application/json;q=0.5", JSON),
        # a browser
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8", JSON),
        # axios, and fetch with an order of its own
        ("application/json, text/plain, */*", JSON),
        ("text/plain, */*", TEXT),
        # q-values
        ("text/plain;q=0.5, application/openmetrics-text;q=0.6", OPENMETRICS),
        ("text/plain;q=0.6, application/openmetrics-text;q=0.5", TEXT),
        ("application/json;q=0, */*", TEXT),
        ("application/json;q=0.1, */*;q=0.2", TEXT),
        ("*/*;q=0.9, application/openmetrics-text", OPENMETRICS),
        ("*/*;q=0", None),
        ("application/json;q=0.000", None),
        ("image/png", None),
        # a quality that is none makes no range
        ("text/plain;q=2, application/openmetrics-text;q=0.1", OPENMETRICS),
        ("text/plain;q=nan", JSON),
        ("text/plain;q=-1, application/json", JSON),
        ("text/plain;q=, application/json;q=0.1", JSON),
    ],
)
def test_the_form_is_the_one_that_is_wanted_most(accept: str, form: Form | None) -> None:
    """RFC 9110 section 12.5.1."""
    assert preferred(accept, OFFERED) == form


@pytest.mark.parametrize("accept", SCRAPES)
def test_prometheus_gets_openmetrics(accept: str) -> None:
    assert preferred(accept, OFFERED) == preferred(accept, (TEXT, OPENMETRICS)) == OPENMETRICS


@given(st.text(alphabet="textplainapplicationjson/*;,q=.01 v"))
def test_whatever_is_asked_for_is_offered_or_nothing(accept: str) -> None:
    assert preferred(accept, OFFERED) in {*OFFERED, None}
