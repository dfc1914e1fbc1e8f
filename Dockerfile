# One image for every process; they differ by argument: up, serve cart_service, migrate, seed ...
FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src

# What we depend on changes seldom and is pinned by hash; it makes a layer of its own.
COPY requirements/ requirements/
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --no-deps --require-hashes --requirement requirements/build.txt \
 && python -m venv /opt/shopmesh \
 && /opt/shopmesh/bin/pip install --no-deps --require-hashes --requirement requirements/run.txt

COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/shopmesh/bin/pip install --no-deps --no-index /wheels/*.whl


FROM python:3.11-slim-bookworm
COPY --from=build /opt/shopmesh /opt/shopmesh
# The one folder that is written to; everything else may be read-only.
RUN install --directory --owner=10001 --group=10001 /data
ENV PATH=/opt/shopmesh/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SHOP_BIND=0.0.0.0 \
    SHOP_DATA_DIR=/data
VOLUME /data
# By number, so that a cluster can tell that it is not root.
USER 10001:10001
EXPOSE 8080 50051
ENTRYPOINT ["shopmesh"]
CMD ["up"]
