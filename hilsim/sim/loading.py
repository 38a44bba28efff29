"""A cold start: the models' units are held from the start on while weights come from flash and graphs are made."""

from __future__ import annotations

from hilsim.cost.memory import stage_shapes
from hilsim.cost.start_up import start_ups
from hilsim.sim.board import Board
from hilsim.sim.device_slot import NO_REQUEST, RequestTag
from hilsim.units import ns

LOAD = "load"  # a span's kind


def load_models(board: Board) -> None:
    """Begin to load all models and networks of stages; those of one chip are ready together.

    What is read from flash goes through the chip's memory meanwhile.
    """
    setup = board.setup
    for start in start_ups(setup):
        chip = setup.chips[start.chip]
        models = [placed.unit_name for placed in setup.roles.values() if placed.chip.name == start.chip]
        networks = [unit for _, unit, _ in stage_shapes(setup.scenario.speech, start.chip)]
        units = dict.fromkeys([*models, *networks])
        for number, unit in enumerate(units):
            nbytes = 0 if number else start.nbytes
            place = board.place(chip, unit)
            board.env.process(place.work(LOAD, ns(start.cold_s.value), RequestTag(NO_REQUEST, 0), nbytes, priority=0))
