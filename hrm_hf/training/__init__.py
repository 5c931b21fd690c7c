"""Training: arguments, optimisers, the trainer on Accelerate and the folder of a run."""

from .adam_atan2 import AdamATan2
from .arguments import HrmModelArguments, HrmTrainingArguments, parse_arguments
from .processes import make_accelerator, on_main_process, share_cpu_cores
from .run_folder import RunFolder, check_run_dir, choose_run_dir, holds_run, machine_in_words
from .sign_sgd import SparseSignSGD
from .steps import learning_rate_at
from .trainer import HrmTrainer
from .weights import WeightAverage, seeded_model

__all__ = [
    "AdamATan2",
    "HrmModelArguments",
    "HrmTrainer",
    "HrmTrainingArguments",
    "RunFolder",
    "SparseSignSGD",
    "WeightAverage",
    "check_run_dir",
    "choose_run_dir",
    "holds_run",
    "learning_rate_at",
    "machine_in_words",
    "make_accelerator",
    "on_main_process",
    "parse_arguments",
    "seeded_model",
    "share_cpu_cores",
]
