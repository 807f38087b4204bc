#!/bin/bash
# Restores databases and artifacts from the backup BACKUP (the name of its folder; `latest`: the newest).
set -euo pipefail
[ "$BACKUP" != latest ] || BACKUP=$(ls -1 "$BACKUPS" | sort | tail -n 1)
from=$BACKUPS/$BACKUP
if [ -z "$BACKUP" ] || [ ! -d "$from" ]; then
    echo "There is no backup \"$BACKUP\"; there are: $(ls -1 "$BACKUPS" | tr '\n' ' ')" >&2
    exit 2
fi
(cd "$from" && sha256sum --check --quiet SHA256SUMS)
open=$(psql --no-align --tuples-only --command "SELECT count(*) FROM pg_stat_activity WHERE datname = 'mlflow'" postgres)
if [ "$open" -gt 0 ]; then
    echo "MLflow is using its database: kubectl scale deployment/okamochi-mlflow --replicas=0 first, then run this again." >&2
    exit 1
fi
# Unpacked beside the old artifacts before anything is changed, so a full disk changes nothing.
new=$ARTIFACTS/.restored
rm -rf "$new"
mkdir "$new"
tar --extract --gzip --file="$from/artifacts.tar.gz" --directory="$new" --no-same-owner
for database in mlflow optuna; do
    psql --quiet --set=ON_ERROR_STOP=1 --command "DROP DATABASE IF EXISTS $database WITH (FORCE)" postgres
    psql --quiet --set=ON_ERROR_STOP=1 --command "CREATE DATABASE $database" postgres
    pg_restore --exit-on-error --no-owner --dbname="$database" "$from/$database.dump"
done
find "$ARTIFACTS" -mindepth 1 -maxdepth 1 ! -name .restored ! -name lost+found -exec rm -rf {} +
find "$new" -mindepth 1 -maxdepth 1 ! -name lost+found -exec mv -t "$ARTIFACTS" {} +
rmdir "$new" 2>/dev/null || rm -rf "$new"
echo "$BACKUP is restored"
