"""The learning rate of a step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Schedule:
    """A rate that falls linearly to zero; in a stream, with the root of the steps.

    Attributes
    ----------
    initial : float
        Rate of step ``first_step``.
    first_step : int
        Step at which the linear fall begins. Until then the rate is constant.
    last_step : int or None
        Step at which the rate is zero. None: a stream, whose rate falls from step 0 on.
    stream_steps : int
        Number of steps after which the rate of a stream starts to fall noticeably.
    warmup_steps : int
        Number of first steps in which the rate rises linearly.
    """

    initial: float
    first_step: int = 0
    last_step: int | None = None
    stream_steps: int = 500
    warmup_steps: int = 0

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        rate = self.initial
        if step < self.warmup_steps:
            rate *= (step + 1) / (self.warmup_steps + 1)
        if self.last_step is None:
            return rate / (1 + step / self.stream_steps) ** 0.5
        left = self.last_step - step
        return rate * min(1.0, left / max(1, self.last_step - self.first_step))

    def wind_down(self, step: int, n_steps: int) -> Schedule:
        """Return the schedule that reaches zero in ``n_steps``, if not earlier."""
        assert self.last_step is not None
        return Schedule(self.rate(step), step, min(self.last_step, step + n_steps), 0)
