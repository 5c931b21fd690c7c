#!/usr/bin/env bash
# What a GPU shows, in one command: benchmarks/gpu_check.sh --help says all. gpu_check.py does the work;
# PYTHON names the interpreter (default python3), WHEELS a folder of wheels for what is missing.
exec "${PYTHON:-python3}" "$(dirname "${BASH_SOURCE[0]}")/gpu_check.py" "$@" </dev/null
