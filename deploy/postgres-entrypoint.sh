#!/bin/bash
# What the official image's entrypoint does, as far as we use it.
set -euo pipefail
if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") --auth-host=scram-sha-256 \
        --auth-local=trust --encoding=UTF8 --no-locale
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    # Without TCP, so that nobody connects to a database that is half made.
    pg_ctl start --wait --options="-c listen_addresses=''"
    [ "$POSTGRES_DB" = postgres ] || createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
    for script in /docker-entrypoint-initdb.d/*.sql; do
        [ ! -f "$script" ] || psql --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --set=ON_ERROR_STOP=1 --file="$script"
    done
    pg_ctl stop --wait --mode=fast
fi
if [ "$1" = postgres ]; then
    set -- "$@" -c listen_addresses='*'
fi
exec "$@"
