"""nginx as what a user would pick instead: a static answer, a proxy, a proxy with a cache."""

from pathlib import Path

from benchmarks.subjects import ANSWER

_CONF = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  keepalive_requests 100000000;
  {http}
  server {{
    listen 127.0.0.1:{port};
    location / {{ {location} }}
  }}
}}
"""
_BEHIND = (
    "upstream behind {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 100000000; }}"
)
_PASS = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://behind;'
_CACHE = (
    " proxy_cache answers; proxy_cache_methods POST; proxy_cache_valid 200 5m;"
    ' proxy_cache_key "$request_uri|$http_authorization|$request_body";'
)


def static(directory: Path, port: int) -> Path:
    """Return the configuration of a server with a fixed answer."""
    said = ANSWER.decode().replace("\\", "\\\\").replace("'", "\\'").replace("$", "")
    return _written(directory, port, "", f"default_type application/json; return 200 '{said}';")


def proxy(directory: Path, port: int, upstream: int, *, cache: bool) -> Path:
    """Return the configuration of a proxy, with an answer cache or without."""
    behind = _BEHIND.format(upstream=upstream)
    if not cache:
        return _written(directory, port, behind, _PASS)
    keys = f"proxy_cache_path {directory}/cache{port} keys_zone=answers:1m;"
    return _written(directory, port, keys + behind, _PASS + _CACHE)


def _written(directory: Path, port: int, http: str, location: str) -> Path:
    own = directory / f"nginx{port}"
    own.mkdir()
    conf = own / "nginx.conf"
    conf.write_text(_CONF.format(directory=own, port=port, http=http, location=location))
    return conf
