"""The schedule of a depth that grows: the cycles of a segment over the steps of a run."""

import re
from itertools import pairwise
from typing import NamedTuple

from ..hrm.configuration_hrm import SIZES
from ..hrm.errors import ArgumentError

_STAGE = re.compile(r"\s*(\d(?:\.\d{1,9})?):(\d{1,3})x(\d{1,3})\s*", re.ASCII)


class DepthStage(NamedTuple):
    """The cycles of the steps from `start` to the next stage."""

    start: float  # share of max_steps, 0 to below 1
    H_cycles: int
    L_cycles: int


def depth_stages(text: str) -> list[DepthStage]:
    """The stages of a schedule such as 0:1x2,0.3:2x4,0.6:3x6. Raises ArgumentError for any other text."""
    found = [_STAGE.fullmatch(part) for part in text.split(",")]
    stages = [DepthStage(float(match[1]), int(match[2]), int(match[3])) for match in found if match]
    ascend = all(one.start < other.start for one, other in pairwise(stages))
    most = min(SIZES["H_cycles"], SIZES["L_cycles"])
    counts = {number for _, *cycles in stages for number in cycles}
    if not all(found) or stages[0].start != 0 or stages[-1].start >= 1 or not ascend or counts - {*range(1, most + 1)}:
        allowed = (
            "START:HxL,... such as 0:1x2,0.3:2x4,0.6:3x6: shares of max_steps that begin with 0, ascend and stay "
        )
        raise ArgumentError(f"depth_schedule is {text!r:.200}; it must be {allowed}below 1, and 1 to {most} cycles")
    return stages
