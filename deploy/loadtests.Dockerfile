# The image of load tests: Locust and ours.
#   git archive --format=tar.gz HEAD loadtests requirements deploy | docker build -t okamochi-loadtests:local -f deploy/loadtests.Dockerfile -
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS packages
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
COPY requirements/loadtests.txt /tmp/requirements.txt
RUN python -m venv --without-pip /opt/okamochi \
 && python -m pip --python /opt/okamochi/bin/python install --no-cache-dir --no-input --progress-bar off \
    --disable-pip-version-check --no-deps --require-hashes -r /tmp/requirements.txt \
 && python -m pip --python /opt/okamochi/bin/python check

FROM ${BASE_IMAGE}
COPY --from=packages /opt/okamochi /opt/okamochi
COPY loadtests /okamochi/loadtests
ENV PATH=/opt/okamochi/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /okamochi
USER 10001:10001
ENTRYPOINT ["locust", "-f", "loadtests/locustfile.py"]
LABEL org.opencontainers.image.title="okamochi-loadtests"
