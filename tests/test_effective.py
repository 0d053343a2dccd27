"""What `/api/config` may show of a value."""

import pytest
from pydantic import SecretStr

from mcp_proxy.effective import masked


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (SecretStr("s3cret"), "***"),
        (SecretStr("http://[::1]:9/a"), "http://[::1]:9/a"),
        (SecretStr("http://s3cret@h:port/"), "***"),
        (SecretStr("unix://s3cret@/run/redis.sock?db=0"), "unix://***@/run/redis.sock?***"),
        ((SecretStr("http://a:s3cret@h"),), ["http://***@h"]),
        (SecretStr("python server.py --db postgres://a:s3cret@h/"), "***"),
        ("plain", "plain"),
        (None, None),
        (3.5, 3.5),
    ],
)
def test_a_secret_is_masked_and_the_rest_is_not(value: object, shown: object) -> None:
    assert masked(value) == shown
