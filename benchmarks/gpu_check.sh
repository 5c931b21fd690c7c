#!/usr/bin/env bash
# What a GPU shows, in ten minutes and one command: benchmarks/gpu_check.sh --help says all. Python does the work;
# PYTHON names it (default python3), WHEELS a folder of wheels for what is missing.
cd "$(dirname "${BASH_SOURCE[0]}")/.." && exec "${PYTHON:-python3}" benchmarks/gpu_check.py "$@" </dev/null
