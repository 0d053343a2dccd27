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
# It writes nothing but its log on stdout, so a read-only root needs no volume. Nothing in here knows an
# architecture: --platform builds it for amd64 or arm64, for both the locks have wheels. The classic
# builder builds it too: no RUN --mount, no COPY --chmod. docs/containers.md has its size and its parts.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# The base's pip fills the environment from outside (--python): none of it is left in there.
RUN python -m venv --without-pip /opt/venv

FROM base AS dependencies
# For `strip`; where it cannot be had, the libraries keep their symbols, and the image works the same.
RUN command -v strip >/dev/null || { apt-get -o Acquire::Retries=0 update -qq \
      && apt-get install -y -qq --no-install-recommends binutils >/dev/null; } || true
# `runtime-otel` has the extra `otel` in it, for traces.
ARG LOCK=runtime
COPY requirements/${LOCK}.txt ./requirements.txt
RUN pip --python /opt/venv/bin/python install --only-binary :all: --no-deps --require-hashes \
      -r requirements.txt
# What only compilers and debuggers read; most of it are symbols (21 of 29 MB).
RUN find /opt/venv \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.pyi' -o -name '*.c' \
      -o -name '*.h' -o -name 'activate*' -o -name 'Activate*' \) -type f -delete; \
    if command -v strip >/dev/null; \
      then find /opt/venv -name '*.so*' -type f -exec strip --strip-unneeded '{}' +; \
      else echo "no strip: the libraries keep their symbols"; fi; \
    chmod -R a+rX,go-w /opt/venv

FROM base AS build
RUN python -m venv --without-pip /opt/backend
COPY requirements/build.txt ./
RUN pip --python /opt/backend/bin/python install --only-binary :all: --no-deps --require-hashes \
      -r build.txt
COPY pyproject.toml README.md LICENSE ./
COPY mcp_proxy mcp_proxy
# Under a root of its own: a layer of its own, so that another version costs 2 MB and not all.
RUN /opt/backend/bin/python -m hatchling build --target wheel \
  && pip --python /opt/venv/bin/python install --no-deps --no-index \
      --no-warn-script-location --root /own dist/*.whl
# The rules for the bundled basic server; not in force until MCP_CONFIG_FILE names them.
COPY config/mcp_proxy.toml /own/etc/mcp-sidecar/
# A checkout under a narrow umask would leave files that the user of the image cannot read.
RUN chmod -R a+rX,go-w /own

FROM ${PYTHON_IMAGE}
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=build /own /
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    MCP_HOST=0.0.0.0 \
    MCP_PORT=8000
# Without a name in /etc/passwd; a number is what runAsNonRoot of Kubernetes can check.
USER 10001:10001
EXPOSE 8000
# It asks the port of MCP_PORT: a port given as `run --port` is not seen.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
  CMD ["mcp-sidecar", "ready"]
ENTRYPOINT ["mcp-sidecar"]
CMD ["run"]
# Last, since they differ from build to build:
#   --build-arg REVISION=$(git rev-parse HEAD) --build-arg CREATED=$(date -u +%Y-%m-%dT%H:%M:%SZ)
ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="mcp-sidecar" \
      org.opencontainers.image.description="A reverse-proxy sidecar that makes one MCP server production grade without changing it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
