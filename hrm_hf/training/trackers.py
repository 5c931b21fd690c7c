"""The trackers that `report_to` names, through Accelerate: a run keeps its name there, and outlives their failures."""

from typing import Any

from accelerate import Accelerator

from ..hrm.errors import ArgumentError
from ..progress import get_logger

logger = get_logger(__name__)


class Trackers:
    """Logs to the trackers of an Accelerator; one that fails is left out from then on, and the run says so.

    settings: the run's arguments, recorded once. run_id: 32 hexadecimal digits, by which they know a resumed run.

    Raises ArgumentError for a tracker that cannot be started.
    """

    def __init__(self, accelerator: Accelerator, settings: dict[str, Any], run_id: str):
        self.accelerator = accelerator
        plain = {name: v if isinstance(v, (int, float, str)) else str(v) for name, v in settings.items()}
        same_run = {name: {key: run_id, "resume": "allow"} for name, key in (("wandb", "id"), ("trackio", "name"))}
        try:
            accelerator.init_trackers("hrm_hf", config=plain, init_kwargs=same_run)
        except Exception as error:  # whatever a tracker raises
            names = ", ".join(str(getattr(tracker, "name", tracker)) for tracker in accelerator.log_with)
            raise ArgumentError(f"report_to: a tracker of {names} cannot be started: {error}") from error

    def log(self, values: dict[str, float], step: int) -> None:
        self._each("log", values, step=step)

    def finish(self) -> None:
        """Ends them; call it once, after the last `log`."""
        self._each("finish")
        self.accelerator.trackers = []

    def _each(self, method: str, *args, **kwargs) -> None:
        for tracker in list(self.accelerator.trackers):
            try:
                getattr(tracker, method)(*args, **kwargs)
            except Exception as error:  # whatever a tracker raises: the run is worth more than its curves
                self.accelerator.trackers.remove(tracker)
                reason = f"{type(error).__name__}: {error}"
                logger.warning(f"the tracker {tracker.name} failed ({reason}) and is left out; metrics.jsonl has all")
