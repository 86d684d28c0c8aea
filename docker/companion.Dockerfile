# The companion, which faces clients: gRPC and HTTP. docs/operations-images.md says how to build,
# run and check it.
ARG BASE=debian:bookworm-20260824-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171

# hadolint ignore=DL3006
FROM ${BASE} AS base
# The newest of the release: Debian's archive keeps no older version that a pin could name.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
 && useradd --uid 10001 --user-group --no-log-init --home-dir /tmp --shell /usr/sbin/nologin lavise \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
 && install --directory --owner lavise --group lavise /store

FROM base AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip
RUN python3 -m venv --without-pip /opt/lavise
WORKDIR /src
# What it depends on comes first, as a layer of its own: a change of the code leaves that as it is.
COPY pyproject.toml constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    touch README.md LICENSE \
 && python3 -m pip --python /opt/lavise/bin/python install --disable-pip-version-check \
        --constraint constraints.txt ".[companion]" \
 # Tests and headers of libraries: a tenth of the image.
 && find /opt/lavise -depth -type d \( -name tests -o -path '*/pyarrow/include' \) -exec rm -r {} +
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/lavise/bin/python install --disable-pip-version-check \
        --no-deps --target /code . \
 && rm -r /code/bin

FROM base
LABEL org.opencontainers.image.title="lavise-companion" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/lavise /opt/lavise
COPY --from=build /code /opt/lavise/lib/python3.11/site-packages
ENV PATH=/opt/lavise/bin:$PATH \
    LAVISE_GRPC_LISTEN=0.0.0.0:50051 \
    LAVISE_HTTP_LISTEN=0.0.0.0:8000 \
    LAVISE_STORE=/store
USER 10001:10001
WORKDIR /tmp
EXPOSE 50051 8000
HEALTHCHECK --interval=15s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-I", "-m", "lavise_service.probe", "companion"]
ENTRYPOINT ["python", "-I", "-m", "lavise_service.companion"]
