# syntax=docker/dockerfile:1
# streamav on the processor: docker build -t streamav . ; docs/operations.md says how to run it.
FROM python:3.12-slim-bookworm AS build

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY streamav ./streamav
COPY engines/*.toml ./engines/
# The CPU build of torch comes from PyTorch's own index; the usual one is the CUDA build of about 3 GB.
RUN python -m venv /opt/streamav \
    && /opt/streamav/bin/pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "torch>=2.11,<2.16" \
    && /opt/streamav/bin/pip install --no-cache-dir ".[web,edge]"

FROM python:3.12-slim-bookworm

# PortAudio is for --mic; the versions are those of the base image's release of Debian.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libportaudio2 libasound2-plugins \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --groups audio,video --home-dir /var/lib/streamav --create-home streamav \
    && install -d -o streamav -g streamav -m 0700 /var/lib/streamav/state /var/lib/streamav/cache

COPY --from=build /opt/streamav /opt/streamav

ENV PATH=/opt/streamav/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    STREAMAV_STATE_DIR=/var/lib/streamav/state \
    STREAMAV_HOME=/var/lib/streamav/cache \
    STREAMAV_LOG_FORMAT=json

USER 10001
WORKDIR /var/lib/streamav
VOLUME ["/var/lib/streamav"]

# The API listens inside the container only. Whoever publishes its port sets http.listen and a token.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8735/healthz', timeout=4)"]

# SIGTERM ends open events; docker stop waits 10 s, which is enough.
STOPSIGNAL SIGTERM
ENTRYPOINT ["streamav"]
CMD ["run", "--config", "/etc/streamav/streamav.toml", "--http", "127.0.0.1:8735"]
