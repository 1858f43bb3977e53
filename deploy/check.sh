#!/usr/bin/env bash
# Everything that is checked without running the program: lint, format, types, contracts, YAML, stubs.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN="${VENV:-.venv}/bin"
"$BIN/ruff" check .
"$BIN/ruff" format --check .
"$BIN/mypy"
"$BIN/mypy" deploy/demo tests/system
"$BIN/lint-imports"
"$BIN/yamllint" -d '{extends: relaxed, rules: {line-length: disable}}' deploy shared/echo/views.yaml
bash deploy/protoc.sh --check
"$BIN/python" deploy/lint_protos.py
