# The image of what is no server: MLflow, retraining, tuning. The locked packages of the group `training` and our code.
# Only what is committed goes in, and no `.venv` to docker:
#   git archive --format=tar.gz HEAD artifact training usecases requirements deploy |
#       docker build -t okamochi-training:local -f deploy/training.Dockerfile -
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS packages
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
COPY requirements/training.txt /tmp/requirements.txt
RUN python -m venv --without-pip /opt/okamochi \
 && python -m pip --python /opt/okamochi/bin/python install --no-cache-dir --no-input --progress-bar off \
    --disable-pip-version-check --no-deps --require-hashes -r /tmp/requirements.txt \
 && python -m pip --python /opt/okamochi/bin/python check
RUN cd /opt/okamochi/lib/python3*/site-packages \
 && find . -type d \( -name tests -o -name include \) -prune -exec rm -rf {} + \
 && find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.h' -o -name '*.a' \) -delete

FROM ${BASE_IMAGE}
COPY --from=packages /opt/okamochi /opt/okamochi
COPY artifact /okamochi/artifact
COPY deploy /okamochi/deploy
COPY training /okamochi/training
COPY usecases /okamochi/usecases
RUN /opt/okamochi/bin/python -m compileall -q /okamochi
# All that is written goes to /tmp, which may be mounted over a root that is read-only.
ENV PATH=/opt/okamochi/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/tmp \
    OKAMOCHI_STATE_DIR=/tmp/okamochi \
    OKAMOCHI_DATA=/tmp/data \
    MPLCONFIGDIR=/tmp/matplotlib \
    MLFLOW_DISABLE_TELEMETRY=true \
    OMP_NUM_THREADS=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /okamochi
USER 10001:10001
LABEL org.opencontainers.image.title="okamochi-training" \
      org.opencontainers.image.description="MLflow and the training of scikit-learn models"
