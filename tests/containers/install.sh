#!/usr/bin/env bash
# What `make test-containers` needs of Debian's packages, if it is not there.
set -euo pipefail
missing=()
for pair in dockerd:docker.io mmdebstrap:mmdebstrap docker-registry:docker-registry; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
[ ${#missing[@]} = 0 ] && exit 0
[ "$(id -u)" = 0 ] || { echo "needs ${missing[*]}; install them, or run this as root" >&2; exit 2; }
echo "installing ${missing[*]}"
apt-get update >/dev/null && apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null
