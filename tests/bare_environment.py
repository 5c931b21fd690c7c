"""A virtual environment with every package of the one that runs the tests, but without hrm_hf.

Nothing is installed or downloaded: its site-packages holds links to what is installed here.
"""

import sys
import sysconfig
import venv
from pathlib import Path


def make_bare_environment(folder: Path) -> Path:
    """Makes the environment in a folder; its Python, to be run with -I so that no PYTHONPATH leads back."""
    venv.EnvBuilder(symlinks=True).create(folder)
    site_packages = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder)}))
    for source in map(Path, sys.path):
        if source.name in ("site-packages", "dist-packages"):
            for entry in source.iterdir():
                link = site_packages / entry.name
                # also the files of an editable install, __editable__.hrm_hf-0.1.0.pth and hrm_hf-0.1.0.dist-info
                if "hrm_hf" not in entry.name.replace("-", "_") and not link.exists():
                    link.symlink_to(entry)
    return folder / "bin" / "python"
