#!/usr/bin/env bash
# Installs the servers that the peers need, Debian's packages, where they are missing. None is started:
# the bench starts its own, on ports of its own.
set -euo pipefail
packages=()
command -v redis-server >/dev/null || packages+=(redis-server)
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || packages+=(rabbitmq-server)
[ "${#packages[@]}" -gt 0 ] || exit 0
command -v apt-get >/dev/null || { echo "missing: ${packages[*]}, and no apt-get to install it" >&2; exit 1; }
sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo -n"
$sudo apt-get update -q
# RUNLEVEL=1 keeps the packages from starting their services.
$sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
  apt-get install -q -y --no-install-recommends "${packages[@]}"
