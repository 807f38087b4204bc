# PostgreSQL of Debian, started like the official image `postgres`, for a cluster that can pull nothing: POSTGRES_USER,
# POSTGRES_PASSWORD, POSTGRES_DB and PGDATA, /docker-entrypoint-initdb.d/*.sql, any uid. Elsewhere take the official one.
#   git archive --format=tar.gz HEAD deploy | docker build -t okamochi-postgres:local -f deploy/postgres.Dockerfile -
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}
# The user first, as the package would take the next free uid.
RUN groupadd --gid 999 postgres \
 && useradd --uid 999 --gid 999 --home-dir /var/lib/postgresql postgres \
 && apt-get update \
 && apt-get install -y --no-install-recommends postgresql \
 && rm -rf /var/lib/apt/lists/* \
 && ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/
COPY deploy/postgres-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
USER 999:999
EXPOSE 5432
ENTRYPOINT ["bash", "/usr/local/bin/docker-entrypoint.sh"]
CMD ["postgres"]
