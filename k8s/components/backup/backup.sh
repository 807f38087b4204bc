#!/bin/bash
# A folder of BACKUPS named after the time: mlflow.dump, optuna.dump, artifacts.tar.gz, SHA256SUMS. The oldest beyond KEEP go.
set -euo pipefail
name=$(date -u +%Y-%m-%dT%H-%M-%SZ)
half=$BACKUPS/.half
rm -rf "$half"
mkdir -p "$half"
for database in mlflow optuna; do
    pg_dump --format=custom --file="$half/$database.dump" "$database"
done
# After the database: what it names is written before it is named, so the archive lacks nothing. A file that is being
# written right now may change under tar's eyes (exit 1) and is named by no row of the dump.
tar --create --gzip --file="$half/artifacts.tar.gz" --directory="$ARTIFACTS" . || [ $? -eq 1 ]
(cd "$half" && sha256sum mlflow.dump optuna.dump artifacts.tar.gz >SHA256SUMS)
sync
mv "$half" "$BACKUPS/$name"
ls -1 "$BACKUPS" | sort | head -n "-$KEEP" | while read -r old; do rm -rf "${BACKUPS:?}/$old"; done
echo "$name: $(du -sh "$BACKUPS/$name" | cut -f1); $(ls -1 "$BACKUPS" | wc -l) backups are kept"
