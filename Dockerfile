# The sidecar alone. At the root of the repository:
#
#   docker build -t mcp-sidecar .
#   docker run --rm --read-only -p 127.0.0.1:8000:8000 \
#     -e MCP_UPSTREAM_URL=http://my-server:9000 mcp-sidecar
#
# Rules of your own: -v "$PWD/rules.toml:/etc/mcp-sidecar/rules.toml:ro" \
#                    -e MCP_CONFIG_FILE=/etc/mcp-sidecar/rules.toml
# Other commands take the place of `run`: docker run --rm mcp-sidecar --help
#
# It writes nothing but its log on stdout, so a read-only root needs no volume. The classic builder
# builds it too: no RUN --mount, no COPY --chmod.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# The base's pip fills both environments from outside (--python): none of it is left in them.
RUN python -m venv --without-pip /opt/venv && python -m venv --without-pip /opt/backend
COPY requirements/build.txt ./
RUN pip --python /opt/backend/bin/python install --only-binary :all: --no-deps --require-hashes \
      -r build.txt
COPY requirements/runtime.txt ./
RUN pip --python /opt/venv/bin/python install --only-binary :all: --no-deps --require-hashes \
      -r runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY mcp_proxy mcp_proxy
RUN /opt/backend/bin/python -m hatchling build --target wheel \
  && pip --python /opt/venv/bin/python install --no-deps --no-index dist/*.whl
COPY deploy/ready.py /opt/venv/share/mcp-sidecar/
COPY config/mcp_proxy.toml /etc/mcp-sidecar/
# A checkout under a narrow umask would leave files that the user of the image cannot read.
RUN chmod -R a+rX,go-w /opt/venv /etc/mcp-sidecar

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mcp-sidecar" \
      org.opencontainers.image.description="A reverse-proxy sidecar that makes one MCP server production grade without changing it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
COPY --from=build /opt/venv /opt/venv
# The rules for the bundled basic server; not in force until MCP_CONFIG_FILE names them.
COPY --from=build /etc/mcp-sidecar /etc/mcp-sidecar
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    MCP_HOST=0.0.0.0 \
    MCP_PORT=8000
# Without a name in /etc/passwd; a number is what runAsNonRoot of Kubernetes can check.
USER 10001:10001
EXPOSE 8000
# It asks the port of MCP_PORT: a port given as `run --port` is not seen.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
  CMD ["python", "-I", "/opt/venv/share/mcp-sidecar/ready.py"]
ENTRYPOINT ["mcp-sidecar"]
CMD ["run"]
