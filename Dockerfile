# Build: docker build -t hf-agent:0.1.0 .
# Run:   docker run -v hf-agent-data:/var/lib/hf-agent -v /run/hf-agent:/run/hf-agent \
#            -v ./config/s3.toml:/etc/hf-agent/agent.toml:ro -e HF_AGENT_BUCKET=… hf-agent:0.1.0
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /src
RUN python -m venv /opt/hf-agent
# Dependencies change less often than the source: a layer of their own.
COPY pyproject.toml README.md LICENSE ./
COPY agent/hf_agent/__init__.py agent/hf_agent/__init__.py
RUN /opt/hf-agent/bin/pip install --no-cache-dir .
COPY agent agent
RUN /opt/hf-agent/bin/pip install --no-cache-dir --no-deps --force-reinstall .

FROM python:${PYTHON}-slim
RUN groupadd --gid 10001 hf-agent \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/hf-agent hf-agent \
 && install -d -o hf-agent -g hf-agent /var/lib/hf-agent /run/hf-agent /etc/hf-agent
COPY --from=build /opt/hf-agent /opt/hf-agent
ENV PATH=/opt/hf-agent/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /var/lib/hf-agent
USER 10001:10001
VOLUME ["/var/lib/hf-agent"]
EXPOSE 9477
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=5m \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9477/healthz', timeout=4)"]
ENTRYPOINT ["hf-agent"]
CMD ["--config", "/etc/hf-agent/agent.toml"]
