"""Build ARC files, train.h5 and test.h5, from collections of tasks in any mixture.

A source is a folder, a zip (which is never unpacked to disk) or a JSON file in one of these layouts, at any depth:
  data/training/*.json, data/evaluation/*.json    ARC-AGI, ARC-AGI-2; also data/test/*.json
  corpus/<Concept>/*.json                         ConceptARC: training tasks
  *_challenges.json with *_solutions.json         Kaggle; with "evaluation" or "test" in the name evaluation tasks
and, where there is none of these, every JSON file with a task, a list of pairs (re-arc) or an object of tasks: those
in a folder whose name says evaluation, eval or validation, or ends with test, are evaluation tasks, all others
training tasks. A line says what was found.

Test inputs without answers (Kaggle's test challenges, "output": null) wait in test.h5: their tasks' train pairs train,
and hrm-evaluate --submission answers them. Further pairs in a task ("arc-gen") train with --extra-pairs use.

The train pairs of all tasks and the test pairs of training tasks go to train.h5, the test pairs of evaluation tasks to
test.h5, in --num-aug augmented variants beside each original. Equal tasks of several sources count once.

A mixture in which test pairs of an evaluation task would reach train.h5 through another task is refused, with the
names (ARC-AGI-2 has 376 evaluation tasks of ARC-AGI among its training tasks); --leaks drop leaves the tasks out that
would train on them, --leaks allow keeps them.
"""

import argparse
import time

from ..data.build.arc_builder import build_arc
from ..data.build.arc_mixture import LEAK_CHOICES, mix_collections
from ..data.build.arc_tasks import EXTRA_PAIRS, TRAINING, read_collection
from ..hrm.errors import ArgumentError
from .build_options import add_output_arguments, file_line, print_list, time_and_memory
from .command import Command

LEAKS = "if test pairs of an evaluation task would train: refuse (default), drop tasks that train on them, or allow"
EXTRA = (
    "pairs beside train and test in a task, and lists of pairs for a task of the same name: use or ignore (default)"
)
SKIP_BAD = "leave out tasks that are bad, too large for the frame, or unlike an earlier one of the name; list them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_output_arguments(parser)
    add = parser.add_argument
    add("sources", nargs="*", metavar="SOURCE", help="folder, zip or JSON file; of equal tasks the first stays")
    add("--source", action="append", default=[], help="one more source; may be given again")
    add("--num-aug", type=int, default=1000, help="augmented variants per task (default 1000)")
    add("--seed", type=int, default=42, help="of every random choice (default 42)")
    add("--workers", type=int, help="processes (default: one per core); the files do not depend on their number")
    add("--frame-size", type=int, default=30, help="side of the frame, the largest grid (default 30)")
    add("--leaks", choices=LEAK_CHOICES, default="refuse", help=LEAKS)
    add("--extra-pairs", choices=EXTRA_PAIRS, default="ignore", help=EXTRA)
    add("--skip-bad", action="store_true", help=SKIP_BAD)


def run(args: argparse.Namespace) -> None:
    started = time.perf_counter()
    sources = args.sources + args.source
    if not sources:
        raise ArgumentError("no source is given: name at least one folder or zip of ARC tasks")
    if args.frame_size < 1:
        raise ArgumentError(f"--frame-size is {args.frame_size}; it must be at least 1")
    frame_shape = (args.frame_size, args.frame_size)
    collections = [read_collection(source, frame_shape, args.skip_bad, args.extra_pairs) for source in sources]
    print(*(collection.found for collection in collections), sep="\n")
    mixture = mix_collections(collections, args.leaks, args.skip_bad, args.extra_pairs)
    how = {"num_workers": args.workers, "frame_shape": frame_shape, "overwrite": args.overwrite}
    infos = build_arc(args.output_dir, mixture.tasks, num_aug=args.num_aug, seed=args.seed, **how)
    tasks = [task.task for task in mixture.tasks]
    num_training = sum(task.split == TRAINING for task in mixture.tasks)
    pairs = f"{sum(len(task.train) for task in tasks)} train and {sum(len(task.test) for task in tasks)} test pairs"
    print(f"{len(tasks)} tasks ({num_training} training, {len(tasks) - num_training} evaluation) with {pairs}")
    for info in infos:
        print("no test.h5: there is no evaluation task" if info is None else file_line(args.output_dir, info))
    print(time_and_memory(started), *(f"note: {note}" for note in mixture.notes), sep="\n")
    print_list(mixture.left_out, "tasks left out")


COMMAND = Command(__doc__, add_arguments, run)
