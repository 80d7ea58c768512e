"""Denoising steps of several jobs in one call (continuous batching, as in Yu et al. 2022, Orca).

Each job runs the ordinary loop of its diffusers pipeline in a course of its own, a greenlet. Where
the loop calls the denoiser, the course waits. The stepper joins the waiting calls that agree in
module and shapes, makes one call of them, and lets each course go on with its rows. So prompts,
seeds, steps, schedulers and guidance may differ, courses join and leave between any two steps, and
a course alone draws the very bits of the plain pipeline.

All of it happens on one thread, the one that calls `step`.
"""

from __future__ import annotations

import contextvars
import itertools
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from greenlet import GreenletExit, getcurrent, greenlet
from torch import nn

from pipelines.device import is_out_of_memory, release_memory
from pipelines.knees import Knees
from pipelines.rows import Rows, join, read_rows, split
from pipelines.twins import shallow_copy

Denoise = Callable[[nn.Module, tuple[Any, ...], Mapping[str, Any]], Any]
"""Calls a denoiser and returns its output: plainly, by a graph, or compiled."""

log = logging.getLogger(__name__)


def call_plainly(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What every other `Denoise` must equal."""
    return module(*args, **kwargs)


@dataclass(slots=True, eq=False)
class Course:
    """Work that runs until it waits for a denoiser, or for another course."""

    owner: str
    """Who it is for: owners share the steps."""
    number: int
    """Of the order in which courses began."""
    is_exact: bool = False
    """Its calls are made alone."""
    value: Any = None
    error: BaseException | None = None
    is_over: bool = False
    thread: greenlet | None = None
    waiters: list[Course] = field(default_factory=list)
    doom: BaseException | None = None
    """What it will be ended with."""


@dataclass(slots=True, eq=False)
class _Call:
    """A denoiser's call that waits."""

    course: Course
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    rows: Rows
    kind: str
    key: Hashable


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a call raised, on its way to the course that made it."""

    error: Exception


class Stepper:
    """Runs courses side by side, one step at a time.

    Args:
        denoise: makes the calls.
        knees: how many rows a call may have.
    """

    def __init__(self, denoise: Denoise = call_plainly, knees: Knees | None = None) -> None:
        self._denoise = denoise
        self._knees = knees or Knees()
        self._courses: dict[greenlet, Course] = {}
        self._ready: deque[tuple[Course, Any]] = deque()
        self._waiting: OrderedDict[Hashable, list[_Call]] = OrderedDict()  # next served first
        self._paused: list[Course] = []
        self._hub: greenlet | None = None
        self._numbers = itertools.count()

    def __len__(self) -> int:
        """Courses that are not over."""
        return len(self._courses)

    def spawn(self, owner: str, work: Callable[[], Any], *, is_exact: bool = False) -> Course:
        """Start a course at the next `step`; what it returns or raises is kept in it."""
        course = Course(owner, next(self._numbers), is_exact)
        course.thread = greenlet(lambda _: self._run(course, work))
        course.thread.gr_context = contextvars.copy_context()
        self._courses[course.thread] = course
        self._ready.append((course, None))
        return course

    @torch.no_grad()  # courses share the thread's mode: none may leave another's behind
    def step(self) -> None:
        """Let every course go on until it waits, and make the next group of calls."""
        self._hub = getcurrent()
        self._go_on()
        for call, outcome in self._make_calls():
            self._ready.append((call.course, outcome))
        paused, self._paused = self._paused, []
        self._ready.extend((course, None) for course in paused)
        self._go_on()

    @torch.no_grad()
    def close(self, error: BaseException) -> None:
        """Raise `error` in every course, and let them end."""
        while self._courses:
            for course in self._courses.values():
                self.end(course, error)
            self._waiting.clear()
            self._hub = getcurrent()
            self._go_on()

    def end(self, course: Course, error: BaseException | None = None) -> None:
        """Raise `error` where the course waits; nothing happens to one that is over."""
        if course.is_over or course.doom is not None:
            return
        course.doom = error or GreenletExit()
        for calls in self._waiting.values():
            calls[:] = [call for call in calls if call.course is not course]
        self._ready.append((course, None))

    def wait(self, course: Course) -> Any:
        """Wait, in a course, for another one; its value.

        Raises:
            whatever the other one raised.
        """
        while not course.is_over:
            course.waiters.append(self._courses[getcurrent()])
            self._switch()
        if course.error is not None:
            raise course.error
        return course.value

    def pause(self) -> None:
        """Let the other courses make a step; at once where there is no course."""
        course = self.current()
        if course is not None:
            self._paused.append(course)
            self._switch()

    def current(self) -> Course | None:
        """The course that runs now."""
        return self._courses.get(getcurrent())

    def stand_in(self, module: nn.Module, name: str, *, can_join: bool = True) -> nn.Module:
        """A module whose calls wait for their turn in a course, and are made at once elsewhere.

        It shares all that the module has. `name` says what the time of a call depends on; without
        `can_join` its calls take turns with others, but each is made alone.
        """
        copied = shallow_copy(module)

        def forward(*args: Any, **kwargs: Any) -> Any:
            course = self.current()
            if course is None:
                return self._denoise(module, args, kwargs)
            rows = read_rows(module, args, kwargs, can_join=can_join and not course.is_exact)
            return self._wait_for(_call(course, module, name, args, kwargs, rows))

        copied.forward = forward
        return copied

    def _run(self, course: Course, work: Callable[[], Any]) -> None:
        try:
            if course.doom is not None:
                raise course.doom
            course.value = work()
        except BaseException as exc:  # also GreenletExit: it ends the course, not the thread
            course.error = exc
        finally:
            course.is_over = True
            self._courses.pop(course.thread, None)  # type: ignore[arg-type]
            course.thread = None
            self._ready.extend((waiter, None) for waiter in course.waiters)

    def _go_on(self) -> None:
        """Run every course that has something to go on with."""
        while self._ready:
            course, outcome = self._ready.popleft()
            if course.thread is None:
                continue
            course.thread.parent = self._hub
            course.thread.switch(outcome)

    def _switch(self) -> Any:
        """Leave the course until the stepper comes back to it; one that is ended never leaves."""
        assert self._hub is not None
        course = self._courses[getcurrent()]
        outcome = self._hub.switch() if course.doom is None else None
        if course.doom is not None:
            raise course.doom
        return outcome

    def _wait_for(self, call: _Call) -> Any:
        self._waiting.setdefault(call.key, []).append(call)
        outcome = self._switch()
        if isinstance(outcome, _Failure):
            raise outcome.error
        return outcome

    def _make_calls(self) -> Iterable[tuple[_Call, Any]]:
        """Make the calls of the group whose turn it is, as far as they pay at once."""
        calls = self._next_group()
        if not calls:
            return ()
        if len(calls) == 1:
            return [(calls[0], self._alone(calls[0]))]
        return zip(calls, self._together(calls), strict=True)

    def _next_group(self) -> list[_Call]:
        """Take calls from the group that was served least recently."""
        while self._waiting:
            key, calls = self._waiting.popitem(last=False)
            if not calls:
                continue
            taken = _fair_share(calls, self._most_rows(calls))
            rest = [call for call in calls if call not in taken]
            if rest:
                self._waiting[key] = rest  # at the end: the other groups come first
            return taken
        return []

    def _most_rows(self, calls: list[_Call]) -> int:
        return self._knees.most_rows(calls[0].kind, max(call.rows.count for call in calls))

    def _alone(self, call: _Call) -> Any:
        """Exactly the call that was asked for."""
        try:
            return self._timed(call.kind, call.rows.count, call.module, call.args, call.kwargs)
        except Exception as exc:
            return _Failure(exc)

    def _together(self, calls: list[_Call]) -> list[Any]:
        """One call for all. If it fails, each is made alone: only the guilty one is to fail."""
        counts = [call.rows.count for call in calls]
        try:
            joined = join([call.rows for call in calls])
            output = self._timed(calls[0].kind, sum(counts), calls[0].module, (), joined)
            return split(output, counts)
        except Exception as exc:
            if is_out_of_memory(exc):
                self._knees.limit(calls[0].kind, sum(counts))
            else:
                log.exception("%d joined calls failed; each is made alone", len(calls))
        release_memory()
        return [self._alone(call) for call in calls]

    def _timed(
        self,
        kind: str,
        rows: int,
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        if not self._knees.is_learning(kind):
            return self._denoise(module, args, kwargs)
        started = _now()
        output = self._denoise(module, args, kwargs)
        self._knees.learn(kind, rows, _now() - started)
        return output


def _call(
    course: Course,
    module: nn.Module,
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    rows: Rows,
) -> _Call:
    key = (id(module), rows.shape, course if rows.shape is None else None)
    return _Call(course, module, args, kwargs, rows, f"{name} {rows.size}", key)


def _fair_share(calls: list[_Call], most_rows: int) -> list[_Call]:
    """The oldest courses of each owner, as many of one as of another, within so many rows.

    So a visitor who asks for one picture beside one who asks for fifty gets half of the device,
    and pictures of one request are ready one after the other if not all go at once.
    """
    of_owner: dict[str, list[_Call]] = {}
    for call in calls:
        of_owner.setdefault(call.course.owner, []).append(call)
    each = [sorted(own, key=lambda call: call.course.number) for own in of_owner.values()]
    in_turn = [call for turn in zip(*each, strict=False) for call in turn]
    taken, rows = [in_turn[0]], in_turn[0].rows.count
    for call in in_turn[1:]:
        if rows + call.rows.count <= most_rows:
            taken.append(call)
            rows += call.rows.count
    return taken


def _now() -> float:
    """Seconds; what a GPU was told to do before is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
