# TorchServe with the handler: the CNN and the mapper. docs/operations-images.md says how to build,
# run and check it. RUNTIME is cpu, or cuda for GPUs.
ARG BASE=debian:bookworm-20260824-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171

# hadolint ignore=DL3006
FROM ${BASE} AS base
# haproxy for those who run it beside TorchServe, as TLS (docs/security.md). The newest of the
# release: Debian's archive keeps no older version that a pin could name.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates haproxy python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
 && useradd --uid 10001 --user-group --no-log-init --home-dir /tmp --shell /usr/sbin/nologin lavise \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
 && mkdir /models

FROM base AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip
RUN python3 -m venv --without-pip /opt/lavise
WORKDIR /src
# What it depends on comes first, as a layer of its own: a change of the code leaves that as it is.
COPY pyproject.toml constraints.txt docker/worker/cuda-constraints.txt ./
ARG RUNTIME=cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    touch README.md LICENSE \
 && python3 -m pip --python /opt/lavise/bin/python install --disable-pip-version-check \
        --constraint constraints.txt --constraint cuda-constraints.txt ".[${RUNTIME},worker]" \
 # Tests and headers of libraries: a tenth of the image.
 && find /opt/lavise -depth -type d \( -name tests -o -path '*/pyarrow/include' \) -exec rm -r {} +
COPY docker/worker/torch.py /opt/lavise/share/torchless/
RUN echo /opt/lavise/share/torchless > /opt/lavise/lib/python3.11/site-packages/torchless.pth \
 && python3 -m compileall -q /opt/lavise/share/torchless
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/lavise/bin/python install --disable-pip-version-check \
        --no-deps --target /code . \
 && rm -r /code/bin

FROM base
LABEL org.opencontainers.image.title="lavise-worker" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/lavise /opt/lavise
# CUDA's libraries, where there are any, come from Python packages and lie where no linker looks.
RUN find /opt/lavise -path '*/nvidia/*/lib' -type d > /etc/ld.so.conf.d/lavise.conf \
 && ldconfig \
 && rm -rf /var/cache/ldconfig
COPY --from=build /code /opt/lavise/lib/python3.11/site-packages
ENV PATH=/opt/lavise/bin:$PATH \
    LAVISE_MODEL_STORE=/models \
    LAVISE_WORKER_OPEN=grpc,metrics
USER 10001:10001
WORKDIR /tmp
EXPOSE 7070 8082
# TorchServe's own /ping is well without any worker.
HEALTHCHECK --interval=15s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-I", "-m", "lavise_service.probe", "worker"]
# Python becomes Java: signals reach TorchServe itself.
ENTRYPOINT ["python", "-I", "-m", "lavise_service.worker"]
