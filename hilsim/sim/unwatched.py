"""Processes that nothing waits for and nothing interrupts: SimPy's own, without the events of their begin and end.

Most are messages on their way. An environment of another class than SimPy's own keeps account of its processes, or of
the wall clock: there they are processes as all others.
"""

from __future__ import annotations

import simpy
from simpy.events import URGENT

from hilsim.sim.device_slot import Process, elapse

BEGUN = elapse(simpy.Environment(), 0)  # what a generator begins with: an event without a value


class Unwatched:
    """What resumes a generator with each event that it waits for, until it returns."""

    __slots__ = ("generator",)

    def __init__(self, generator: Process):
        self.generator = generator

    def resume(self, event: simpy.Event) -> None:
        """Go on with the value of an event, or with its exception."""
        generator = self.generator
        try:
            while True:
                if event._ok:
                    event = generator.send(event._value)
                else:
                    event._defused = True
                    event = generator.throw(event._value)
                if event.callbacks is not None:
                    event.callbacks.append(self.resume)
                    return
        except StopIteration:
            return


def start(env: simpy.Environment, generator: Process) -> None:
    """Start a process that nothing waits for, before all else that is still to happen at this instant."""
    if type(env) is not simpy.Environment:
        env.process(generator)
        return
    elapse(env, 0, URGENT).callbacks.append(Unwatched(generator).resume)


def start_within(env: simpy.Environment, generator: Process) -> None:
    """The same from a process that then does nothing but wait: it may as well run to its first event at once."""
    if type(env) is not simpy.Environment:
        env.process(generator)
        return
    Unwatched(generator).resume(BEGUN)
