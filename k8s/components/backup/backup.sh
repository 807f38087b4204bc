#!/bin/bash
# Writes mlflow.dump, optuna.dump, artifacts.tar.gz and SHA256SUMS into a folder of BACKUPS named after the time; keeps KEEP folders.
set -euo pipefail
name=$(date -u +%Y-%m-%dT%H-%M-%SZ)
half=$BACKUPS/.half
rm -rf "$half"
mkdir -p "$half"
for database in mlflow optuna; do
    pg_dump --format=custom --file="$half/$database.dump" "$database"
done
# After the database: it names only files that exist by then, so the archive has all of them. A file that is written
# meanwhile may change while tar reads it (exit 1); no row of the dump names it.
tar --create --gzip --file="$half/artifacts.tar.gz" --directory="$ARTIFACTS" . || [ $? -eq 1 ]
(cd "$half" && sha256sum mlflow.dump optuna.dump artifacts.tar.gz >SHA256SUMS)
sync
mv "$half" "$BACKUPS/$name"
ls -1 "$BACKUPS" | sort | head -n "-$KEEP" | while read -r old; do rm -rf "${BACKUPS:?}/$old"; done
echo "$name: $(du -sh "$BACKUPS/$name" | cut -f1); $(ls -1 "$BACKUPS" | wc -l) backups are kept"
