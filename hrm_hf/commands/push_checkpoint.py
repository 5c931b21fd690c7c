"""Push a trained checkpoint to the Hugging Face Hub: its weights, processor, model card and the records of its run.

    python examples/push_to_hub.py --checkpoint runs/.../checkpoint-final --repo-id you/name

needs a token that may write (`hf auth login` or HF_TOKEN). --dry-run lists what would be sent, without a network. The
model card is filled from what the run measured. A push that broke off can be repeated; what has arrived is not sent
again. The checkpoint itself is never changed.
"""

import argparse

from hrm_hf.commands.command_parser import CommandParser
from hrm_hf.commands.training_run import run_as_command
from hrm_hf.hub.push import push_checkpoint


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    sent = push_checkpoint(
        args.checkpoint,
        args.repo_id,
        private=args.private,
        dry_run=args.dry_run,
        revision=args.revision,
        with_code=args.with_code,
        puzzle_table=args.puzzle_table,
        max_shard_size=args.max_shard_size,
        run_dir=args.run_dir,
    )
    for path, size in sent:
        print(f"{size:>15,} {path}")
    what = f"{len(sent)} files, {sum(size for _, size in sent):,} bytes"
    print(f"{what} would be sent to {args.repo_id}" if args.dry_run else f"{what} are in {args.repo_id}")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    description, details = __doc__.split("\n\n", 1)
    parser = CommandParser(
        description=description, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="folder of the checkpoint")
    parser.add_argument("--repo-id", required=True, help="repository on the Hub, owner/name; made if there is none")
    parser.add_argument("--private", action="store_true", help="make it a private repository")
    parser.add_argument("--dry-run", action="store_true", help="list what would be sent, and send nothing")
    parser.add_argument("--revision", help="branch to push to (main)")
    parser.add_argument(
        "--with-code", action="store_true", help="send the code too, for use without hrm_hf (trust_remote_code)"
    )
    parser.add_argument(
        "--puzzle-table",
        nargs="+",
        default=["all"],
        metavar="all|none|TASK",
        help="rows of the puzzle table to send: all, none but the blank one, or those of the named ARC tasks (all)",
    )
    parser.add_argument("--max-shard-size", default="5GB", help="larger weights are cut into several files (5GB)")
    parser.add_argument("--run-dir", help="folder of the training run (the one that the checkpoint lies in)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_as_command(main)
