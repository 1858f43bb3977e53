#!/usr/bin/env bash
# Regenerate shared/pb from protos/ with the pinned compiler; with --check, compare instead.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN="${VENV:-.venv}/bin"
shopt -s nullglob
protos=(protos/shared/pb/*.proto)
if [ "${#protos[@]}" -eq 0 ]; then
  echo "stubs: no proto yet"
  exit 0
fi
target="$(mktemp -d)"
trap 'rm -rf "$target"' EXIT
"$BIN/python" -m grpc_tools.protoc -Iprotos --python_out="$target" --pyi_out="$target" --grpc_python_out="$target" "${protos[@]}"
if [ "${1:-}" = "--check" ]; then
  diff -r -x __init__.py -x __pycache__ "$target/shared/pb" shared/pb
else
  cp -r "$target/shared/pb/." shared/pb/
fi
