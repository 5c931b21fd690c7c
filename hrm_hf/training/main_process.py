"""What only one process may do, such as writing a folder, without leaving the others waiting where it fails."""

from collections.abc import Callable
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from ..hrm.errors import HrmError


def on_main_process(accelerator: Accelerator, action: Callable[[], Any]) -> Any:
    """The action's result on the main process, None on the others; where it fails, all fail, so that none waits.

    Raises:
        HrmError, OSError: what the action raised, on every process with the same words.
    """
    result, own, failure = None, None, [None]
    if accelerator.is_main_process:
        try:
            result = action()
        except (HrmError, OSError) as error:
            own = error
            failure = [error if isinstance(error, HrmError) else OSError(str(error))]  # not every OSError can be sent
    broadcast_object_list(failure)
    if own is not None:
        raise own
    if failure[0] is not None:
        raise failure[0]
    return result
