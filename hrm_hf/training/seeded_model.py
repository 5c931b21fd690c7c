"""A model with fresh weights that depend on a seed alone."""

import torch

from ..hrm.configuration_hrm import HrmConfig
from ..hrm.modeling_hrm import HrmForPuzzleSolving


def seeded_model(config: HrmConfig, seed: int) -> HrmForPuzzleSolving:
    """Builds a model on the CPU; the same config and seed give the same weights.

    transformers initialises from torch's global generator, so that one is seeded for the moment and then put back.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HrmForPuzzleSolving(config)
