"""Push a checkpoint, puzzle files or a page to the Hugging Face Hub.

This needs a token that may write (`hf auth login` or HF_TOKEN). --dry-run lists what would be sent and needs no
network. A push that broke off can be repeated: what has arrived is not sent again. The folder itself is never changed.
"""

import argparse

from ..data.push import push_puzzles
from ..hub.push import push_checkpoint, push_space
from .command import Command, one_of

CHECKPOINT = """Push a trained checkpoint: its weights, processor, model card and the records of its run.

    hrm-push checkpoint --checkpoint runs/.../checkpoint-final --repo-id you/name

The model card is filled from what the run measured.
"""
DATA = """Push puzzle files as a data set, with a card that says what they hold.

    hrm-push data --data-dir DIR --repo-id you/name --license mit --source "where the puzzles are from"

`load_puzzles("you/name", split="test")` and `training_batches("you/name", ...)` read them back.
"""
SPACE = """Push the page that solves Sudokus in the browser, as a static Space.

    hrm-push space --space build/page --repo-id you/name

`make page` or examples/space/build.py builds it. The Space then holds the files of the folder and no others.
"""


def add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repo-id", required=True, help="repository on the Hub, owner/name; made if there is none")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--dry-run", action="store_true", help="list what would be sent, and send nothing")


def add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoint", required=True, help="folder of the checkpoint")
    add_shared_arguments(parser)
    add("--revision", help="branch to push to (main)")
    add("--with-code", action="store_true", help="send the code too, for use without hrm_hf (trust_remote_code)")
    rows = "rows of the puzzle table to send: all, none but the blank one, or those of the named ARC tasks (all)"
    add("--puzzle-table", nargs="+", default=["all"], metavar="all|none|TASK", help=rows)
    add("--max-shard-size", default="5GB", help="larger weights are cut into several files (5GB)")
    add("--run-dir", help="folder of the training run (default: the one that holds the checkpoint)")


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", required=True, help="folder with train.h5 and test.h5, as hrm-build writes them")
    add_shared_arguments(parser)
    parser.add_argument("--license", required=True, help='licence of the data: "mit", "cc-by-4.0", ...')
    parser.add_argument("--source", required=True, help="where the puzzles are from, in words, for the card")


def add_space_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--space", required=True, help="folder of the page, as examples/space/build.py builds it")
    add_shared_arguments(parser)


def run_checkpoint(args: argparse.Namespace) -> None:
    options = {name: value for name, value in vars(args).items() if name not in ("checkpoint", "repo_id", "run")}
    report(push_checkpoint(args.checkpoint, args.repo_id, **options), args.repo_id, args.dry_run)


def run_data(args: argparse.Namespace) -> None:
    options = {name: value for name, value in vars(args).items() if name not in ("data_dir", "repo_id", "run")}
    sent = push_puzzles(args.data_dir, args.repo_id, **options)
    report(sent, f"the data set {args.repo_id}", args.dry_run)


def run_space(args: argparse.Namespace) -> None:
    sent = push_space(args.space, args.repo_id, args.private, args.dry_run)
    report(sent, f"the Space {args.repo_id}", args.dry_run)


def report(sent: list[tuple[str, int]], where: str, dry_run: bool) -> None:
    for name, size in sent:
        print(f"{size:>15,} {name}")
    what = f"{len(sent)} files, {sum(size for _, size in sent):,} bytes"
    print(f"{what} would be sent to {where}" if dry_run else f"{what} are in {where}")


COMMANDS = {
    "checkpoint": Command(CHECKPOINT, add_checkpoint_arguments, run_checkpoint),
    "data": Command(DATA, add_data_arguments, run_data),
    "space": Command(SPACE, add_space_arguments, run_space),
}
main = one_of(COMMANDS, __doc__).main

if __name__ == "__main__":
    raise SystemExit(main())
