"""Runs the transformers model linter on the given files, without the rules that only fit files inside transformers.

    python .ci/lint_model_files.py FILE...

The linter's own command can add rules but not leave one out. A single finding is silenced in the file, with
`# trf-ignore: RULE` and the reason.
"""

import sys
from pathlib import Path

from mlinter import mlinter

RULES_LEFT_OUT = {
    "TRF028": "licence header in each file: ours stands once, in LICENSE",
    "TRF057": "@auto_docstring: it prints errors at import outside transformers",
}


def main(paths: list[str]) -> int:
    if unknown := RULES_LEFT_OUT.keys() - mlinter.TRF_RULES.keys():
        raise SystemExit(f"the linter no longer has {', '.join(sorted(unknown))}: remove them from RULES_LEFT_OUT")
    rules = mlinter.DEFAULT_ENABLED_TRF_RULES - RULES_LEFT_OUT.keys()
    found = [v for path in map(Path, paths) for v in mlinter.analyze_file(path, path.read_text("utf-8"), rules)]
    for violation in found:
        print(f"{violation.file_path}:{violation.line_number}: {violation.message}", file=sys.stderr)
    print(f"transformers model linter: {len(paths)} files, {len(rules)} rules, {len(found)} findings")
    return 1 if found or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
