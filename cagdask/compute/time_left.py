"""How long a command will take yet, from what was expected of its phases and what has passed.

    phases, each with expected seconds     [==prepare==|=====rounds=====|==write==|report]
    a stage begins --> its phase              done ----^ elapsed
    time left = expected of what is not done * (elapsed / expected of what is done)

The plan is trusted at first and the clock later: :data:`TRUST` seconds of the plan count as if they had been seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

QUIET_SECONDS = 10.0
"""Nothing is said before."""
LEAST_DONE = 0.02
"""Nor before this share of what is expected is done."""
TRUST = 15.0
"""Seconds of the plan that count as seen."""
AT_MOST = 0.9
"""Of a stage that does not tell how far it is, the share that time alone can fill."""
LATER_ROUND = 0.375
"""A round's cost over that of the round before: all rounds cost 1.6 times the first, see
:data:`cagdask.engine.plan.expected_cost.ROUNDS`."""
_ROUND = re.compile(r"round (\d+)")


@dataclass(frozen=True)
class Phase:
    """Stages that follow each other.

    Attributes
    ----------
    words
        One of them is in the name of each of its stages.
    seconds
        Expected of all.
    parts
        Words of its stages in order, and what share each is expected to take; none: the phase's time alone tells.
    """

    words: tuple[str, ...]
    seconds: float
    parts: tuple[tuple[str, float], ...] = ()


class TimeLeft:
    """Follows a command through its phases.

    Parameters
    ----------
    phases
        In the order in which they run.
    now
        Time, in seconds, of any clock that never goes back; so below.
    """

    def __init__(self, phases: Sequence[Phase], now: float) -> None:
        self.phases = phases
        self.begun = self.phase_begun = self.stage_begun = now
        self.current = 0
        self.from_, self.span, self.counts = 0.0, 1.0, False  # of the phase, by the stage that runs
        self.furthest = 0.0
        self._said: tuple[float, float] | None = None

    def begin(self, stage: str, now: float) -> None:
        """Hear that a stage begins; one of no phase is counted with the phase that runs."""
        found = [i for i in range(self.current, len(self.phases)) if _has(stage, self.phases[i].words)]
        if found and found[0] > self.current:
            self.current, self.phase_begun, self.furthest = found[0], now, 0.0
        self.stage_begun = now
        self.from_, self.span, self.counts = 0.0, 1.0, False
        parts = self.phases[self.current].parts
        round_ = _ROUND.search(stage)
        if not (found and parts and round_):
            return
        rest = LATER_ROUND ** (int(round_[1]) - 1)  # of the phase, when this round begins
        whole = rest * (1 - LATER_ROUND)
        places = [i for i, (words, _) in enumerate(parts) if words in stage]
        before = sum(share for _, share in parts[: places[0]]) if places else 0.0
        self.from_ = 1 - rest + whole * before
        self.span = whole * parts[places[0]][1] if places else rest  # a last round ends the phase
        self.counts = bool(places)

    def seconds(self, share: float, now: float) -> float | None:
        """Seconds left, while ``share`` of the stage that runs is done; None where there is nothing to tell from."""
        phase = self.phases[self.current]
        before = sum(one.seconds for one in self.phases[: self.current])
        rate = (self.phase_begun - self.begun + TRUST) / (before + TRUST)
        if not self.counts:
            begun = self.stage_begun if self.from_ else self.phase_begun
            share = min(AT_MOST, (now - begun) / max(rate * phase.seconds * self.span, 1e-9))
        self.furthest = max(self.furthest, self.from_ + self.span * share)
        done, total = before + phase.seconds * self.furthest, sum(one.seconds for one in self.phases)
        elapsed = now - self.begun
        if elapsed < QUIET_SECONDS or done < LEAST_DONE * total:
            return None
        return self._steady((total - done) * (elapsed + TRUST) / (done + TRUST), now)

    def _steady(self, left: float, now: float) -> float:
        """Count down what was said before, unless that is off by a fifth."""
        if self._said is not None:
            counted = self._said[0] - (now - self._said[1])
            if 0.8 * counted <= left <= 1.25 * counted:
                left = counted
        self._said = left, now
        return left


def _has(stage: str, words: Sequence[str]) -> bool:
    return any(one in stage for one in words)
