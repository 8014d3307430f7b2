#!/usr/bin/env bash
# A base image from Debian's packages alone, for where no registry of images can be reached: NAME, default
# localhost/python:3.11-slim. For real use name a base by its digest instead.
set -euo pipefail
name=${1:-localhost/python:3.11-slim}
docker=${DOCKER:-docker}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --quiet --variant=minbase --include=python3,python3-pip,python3-venv,ca-certificates bookworm "$folder/base.tar"
"$docker" import --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' \
  "$folder/base.tar" "$name" >/dev/null
echo "$name"
