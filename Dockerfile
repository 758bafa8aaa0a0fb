# The image of hf-agent, for linux/amd64 and linux/arm64 (docs/kubernetes.md, docs/supply-chain.md):
#   docker buildx build --platform linux/amd64,linux/arm64 -t hf-agent:0.1.0 .
# Run:
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges --stop-timeout 60 \
#     -v hf-agent-data:/var/lib/hf-agent -v hf-agent-run:/run/hf-agent \
#     -v ./config/s3.toml:/etc/hf-agent/agent.toml:ro -e HF_AGENT_BUCKET=… hf-agent:0.1.0

# Both stages need one interpreter: the virtual environment of the first one names it by its path.
ARG BASE=docker.io/library/python:3.12-slim-bookworm

# hadolint ignore=DL3006
FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /opt/hf-agent
# A C compiler for agent/native, and Python's header, where the base image lacks them (python:*-slim
# has the header, Debian's python3 neither). In the base image's versions, and in this stage only.
# hadolint ignore=DL3008
RUN header=$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h; \
    if ! command -v cc || ! [ -e "$header" ]; then \
      apt-get update \
      && { command -v cc || apt-get install -y --no-install-recommends gcc libc6-dev; } \
      && { [ -e "$header" ] || apt-get install -y --no-install-recommends python3-dev; } \
      && rm -rf /var/lib/apt/lists/*; \
    fi
# Dependencies change less often than the source: a layer of their own. Only wheels, so that none of
# them is compiled here; only those whose digest is in the lock.
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN /opt/hf-agent/bin/pip install --no-cache-dir --no-compile --only-binary :all: --require-hashes \
      -r requirements/runtime.txt \
 && python3 -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --only-binary :all: --require-hashes \
      -r requirements/build.txt
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY agent agent
# What the root file system holds is read-only later: byte code is made now, and of every module.
RUN HF_AGENT_NATIVE=require \
    /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /tmp/wheel . \
 && /opt/hf-agent/bin/pip install --no-cache-dir --no-compile --no-deps /tmp/wheel/*.whl \
 && /opt/hf-agent/bin/pip uninstall --yes pip setuptools \
 && python3 -m compileall -q /opt/hf-agent/lib

# hadolint ignore=DL3006
FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="hf-agent" \
      org.opencontainers.image.description="Durable log shipping: Unix sockets to a write-ahead log to Hyperfile containers on object stores" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/python:3.12-slim-bookworm"
# The directories belong to the user, so that volumes which are made from them do too.
RUN groupadd --gid 10001 hf-agent \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/hf-agent \
      --shell /usr/sbin/nologin hf-agent \
 && install -d -o hf-agent -g hf-agent /var/lib/hf-agent /run/hf-agent \
 && install -d /etc/hf-agent
COPY --from=build /opt/hf-agent /opt/hf-agent
ENV PATH=/opt/hf-agent/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/hf-agent
# Numbers: Kubernetes cannot tell from a name that a user is not root.
USER 10001:10001
VOLUME ["/var/lib/hf-agent"]
EXPOSE 9477
STOPSIGNAL SIGTERM
# Kubernetes has probes of its own and does not look at this.
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m --retries=3 \
  CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9477/healthz', timeout=8)"]
# As process 1, without a shell or an init around it: the agent handles its signals itself.
ENTRYPOINT ["hf-agent"]
CMD ["--config", "/etc/hf-agent/agent.toml"]
