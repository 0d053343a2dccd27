"""Where parsers of JSON are known to part ways, and other beginnings for a fuzzer."""

_DEEP = 3000

# Each is a value; what stands around it is added by `bodies`.
MINEFIELD: tuple[bytes, ...] = (
    # numbers
    b"0", b"-0", b"-0.0", b"0e5", b"-0e5", b"01", b"+1", b".5", b"5.", b"1e5", b"1E+5", b"1e", b"1e400",
    b"-1e400", b"1e-400", b"1.0", b"1.00", b"100e-2", b"9007199254740992", b"9007199254740993",
    b"-9007199254740993", b"18446744073709551616", b"1" * 400, b"0." + b"1" * 400, b"1e99999999999",
    b"NaN", b"-NaN", b"Infinity", b"-Infinity", b"inf", b"0x10", b"1_000", b"1,5", b"--1", b"1.1.1",
    b"0.1", b"0.30000000000000004", b"1e23", b"5e-324", b"2.2250738585072014e-308", b"1\x00",
    "١".encode(), "１".encode(), b"1e\xd9\xa1",
    # texts
    b'"a"', b'""', b'"\\u0061"', b'"\\u0000"', b'"\\ud800"', b'"\\udc00"', b'"\\ud83d\\ude00"',
    b'"\\ude00\\ud83d"', b'"\\uD83D"', b'"\\u00"', b'"\\uZZZZ"', b'"\\x41"', b'"\\a"', b'"\\/"',
    b'"\n"', b'"\t"', b'"\x00"', b'"\x1f"', b'"\x7f"', b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"', b'"\xe2\x80\xa8"', b'"\xef\xbf\xbf"', b"'a'", b'"a', b'a"', b'"\\"',
    '"\u212a"'.encode(), '"ſ"'.encode(), '"é"'.encode(), '"é"'.encode(),
    # structures
    b"{}", b"[]", b'{"a":1,"a":2}', b'{"a":1,"\\u0061":2}', b'{"":1,"":2}', b'{"a":1,}', b"[1,]",
    b"[,1]", b"[1 2]", b'{"a" 1}', b'{"a":}', b"{a:1}", b"{1:2}", b'{"a":1}}', b"[1]]", b"[", b"{",
    b"[" * _DEEP + b"]" * _DEEP, b'{"a":' * _DEEP + b"1" + b"}" * _DEEP, b"[" * _DEEP,
    b'{"__proto__":{"a":1}}', b'{"constructor":1}', b'{"toString":1}', b"[1/**/]", b"[1//\n]",
    b"[1]\x00", b"[1] x", b"\xef\xbb\xbf[1]", b"\xff\xfe[\x00]\x00", b"[\x0c1]", b"[\xc2\xa01]",
    b"[\xe2\x80\xa81]", b" \t\r\n[1] \t\r\n", b"true", b"True", b"TRUE", b"nul", b"null", b"undefined",
    b"", b" ", b"\x00",
)  # fmt: skip

AROUND = (
    b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"look","arguments":{"a":%b}}}',
    b'{"jsonrpc":"2.0","id":%b,"method":"tools/list"}',
    b'{"service":"jira","tool_name":"look","params":{"a":%b}}',
    b'{"jsonrpc":"2.0","id":7,"result":{"content":[],"x":%b}}',
    b'{"result":{"x":%b},"id":"7","jsonrpc":"2.0"}',
)


def bodies() -> list[bytes]:
    """Return each value alone and in messages, and a few more ways to say a message oddly."""
    within = [around.replace(b"%b", value) for value in MINEFIELD for around in AROUND]
    call = AROUND[0].replace(b"%b", b"1")
    odd = [
        call.replace(b'"id"', b'"Id"'), call.replace(b'"id"', b'"\\u0069d"'),
        call.replace(b'"name"', b'"NAME"'), call.replace(b'"method"', '"ſmethod"'.encode()),
        call.decode().encode("utf-16"), call.decode().encode("utf-32-le"), b"[" + call + b"]",
        call + call, call + b"\n" + call, b"\xef\xbb\xbf" + call, call[:-1], b" " + call + b"\r\n",
        call.replace(b"{", b"{\x00", 1), call.replace(b'"2.0"', b"2.0"), call.replace(b"7", b"7.0"),
        call.replace(b"7", b"null"), call.replace(b"7", b"[7]"), call.replace(b"7", b'"7"'),
        b'{"result":{"x":1,"id":5}}', b'{"result":{"id":5},"jsonrpc":"2.0"}', b'{"id":1,"result":{"id":2}}',
        b'{"result":{},"x":",\\"id\\":7}"}', b'{"result":{"x":",\\"id\\":7"},"id":"a\\"b"}', b' { "id" : -1 , "result":{}}',
        call.replace(b'"look"', b'"look","name":"save"'), call.replace(b'"id":7', b'"id":7,"id":8'),
    ]  # fmt: skip
    return [*MINEFIELD, *within, *odd]


EVENTS = [
    b"data: a\n\n", b"data: a\r\n\r\ndata: b\r\r", b"\xef\xbb\xbfdata: a\n\n", b":c\nid: 1\x00\n\n",
    b'event: endpoint\ndata: /messages?id=1\n\nevent: message\ndata: {"id":7,"result":{}}\n\n',
    b"id\ndata\n\n", b"retry: 1\ndata: " + b"x" * 300 + b"\n\ndata: y\n\n", b"\r\n\n\r\r\n",
    b"event: endpoint\ndata: http://a/b\n\n" + b'data: {"id":' + b"[" * 900 + b"]" * 900 + b"}\n\n",
]  # fmt: skip

HEADERS = [
    b"Host: a\nConnection: close, X-A\nX-A: b\nTE: trailers", b"Content-Type: application/json; charset=utf-7",
    b"Accept: text/event-stream;q=0, */*;q=0.5, application/*;;q=x", b"Via: 1.1 sidecar, 1.1 b",
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\ntracestate: a=b",
    b"X-Forwarded-For: 10.0.0.1, ::1, x\nX-Forwarded-Proto: https\nForwarded: for=a",
    b'Cache-Control: no-store, max-age="1"\nTransfer-Encoding: gzip, chunked\nX: \xff\xfe',
    b"Host: [::1\nOrigin: http://a:99999\nX-Request-Id: \x1b[2J", b"Origin: null\nHost: a:b:c\nExpect: 100-continue",
    b"Host: \xff\xb2\nOrigin: https://[fe80::1%25eth0]:1/", b"MCP-Protocol-Version: 2026-07-28\nMcp-Name: =?base64?4pyT?=",
]  # fmt: skip

SETTINGS = [
    b'\x00[upstream]\nurl = "http://a:1"\n', b'\x00[tools."a*"]\nttl = 1e400\ncache = 2\n',
    b'\x00[server]\nport = "x"\nallowed_hosts = [1, {a=2}]\n', b"\x00upstream = 5\n[retry]\nmax_retries = 99999999999999999999\n",
    b'\x00[failures]\npatterns = "x"\n[nobody]\n', b"\x00a = 1979-05-27T07:32:00Z\n[cache]\nttl = nan\n",
    b'\x00[tools]\n"" = {rate_limit = "1/", invalidates = ["*/*/*"]}\n', b"\x00\xff\xfe", b"\x00[a]\n[a]\n",
    b"\x01MCP_UPSTREAM_URL=http://[::1\nMCP_PORT=1e3", b"\x01MCP_UPSTREAM_URL=http://a, http://a\nMCP_HOST=\n",
    b"\x01MCP_CACHE_TTL=inf\nMCP_HEDGE_DELAY=p96\nMCP_RATE_LIMIT_CLIENT=1/\xd9\xa1", b"\x01MCP_TRUSTED_PROXIES=10.0.0.0/99",
    b"\x01MCP_ADMIN_TOKEN_FILE=/\nMCP_CONFIG_FILE=/", b"\x01MCP_PUBLIC_URL=https://a:b@c?d#e\nREDIS_URL=redis://",
    b"\x01MCP_UPSTREAM_HOST_HEADER=a b\nMCP_TOOL_ROUTES=,,\nOTEL_TRACES_EXPORTER=x", b"\x01MCP_CONFIG_FILE=a\x00b",
    b"\x00a = " + b"[" * _DEEP, b"\x00a = " + b"{a=" * _DEEP, b"\x00a" + b".a" * _DEEP + b" = 1", b"\x01REDIS_URL_FILE=\x00",
    b"\x00[tools" + b".a" * _DEEP + b"]\nb = 1", b"\x00[tools.x]\nttl = " + b"9" * 5000, b"\x00[tools.x]\nttl = 0x" + b"f" * 5000,
]  # fmt: skip
