"""Publish built puzzle files on the Hub: python examples/push_dataset_to_hub.py --data-dir DIR --repo-id you/name ...

DIR holds train.h5 and test.h5 as the builders in convert/ write them. They are sent with a card that says what they
hold; --license and --source are yours to state. `load_puzzles("you/name", split="test")` and
`training_batches("you/name", ...)` read them back. --dry-run lists what would be sent and needs no network.

The token is that of `hf auth login`, or HF_TOKEN.
"""

import argparse
import sys

from hrm_hf.commands.command_parser import CommandParser
from hrm_hf.data.push import push_puzzles
from hrm_hf.hrm.errors import HrmError


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code (2 after bad input, with one line on stderr)."""
    args = parse_arguments(arguments)
    try:
        sent = push_puzzles(
            args.data_dir,
            args.repo_id,
            license=args.license,
            source=args.source,
            private=args.private,
            dry_run=args.dry_run,
        )
    except (HrmError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{'would send' if args.dry_run else 'sent'} to the data set {args.repo_id}:")
    for name, num_bytes in sent:
        print(f"{num_bytes:>14} bytes  {name}")
    return 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="folder with train.h5 and test.h5")
    parser.add_argument("--repo-id", required=True, help="owner/name of the data set, made if it does not exist")
    parser.add_argument(
        "--license", required=True, help='of the data, in the Hub\'s spelling: "mit", "cc-by-4.0", ...'
    )
    parser.add_argument("--source", required=True, help="where the puzzles are from, in words, for the card")
    parser.add_argument("--private", action="store_true", help="make a new data set private")
    parser.add_argument("--dry-run", action="store_true", help="list what would be sent, send nothing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
