"""A world to try things in: one carrier, two nodes far apart, calls by hand."""

from tools.simulate.demand import Call, Habit, Phone
from tools.simulate.world import Epoch, Node, Scenario, Sickness, Way, World

WEST, EAST = "carrier1/west", "carrier1/east"
SHORT = Scenario(seconds=100.0, warm_up_seconds=0.0)
GOOD = Way(0.0, 0.0, 20.0, 2.0)


def a_world(scenario: Scenario = SHORT, **ways: Way) -> World:
    """Return one where every way is good but those from both groups to the nodes named."""
    nodes = (Node(id="west1", site="west", capacity=10), Node(id="east1", site="east", capacity=10))
    believed = {(group, node.id): ways.get(node.id, GOOD) for group in (WEST, EAST) for node in nodes}
    epoch = Epoch(believed, {node.id: Sickness() for node in nodes})
    return World(
        scenario=scenario, groups=(WEST, EAST), nodes=nodes, edges=[0.0], epochs=[epoch], troubles=(), sicknesses=(),
        distances={(region, site): 10.0 if region == site else 70.0
                   for region in ("west", "middle", "east") for site in ("west", "middle", "east")})


def a_call(number: int = 1, at: float = 0.0, seconds: float = 30.0, habit: Habit = Habit.TRUE,
           groups: tuple[str, str] = (WEST, WEST), registrar: int = 0) -> Call:
    """Return a call between two phones of one habit."""
    caller, callee = (Phone(address=f"10.0.{side}.{number}", group=group, habit=habit)
                      for side, group in enumerate(groups))
    return Call(id=f"call-{number}", at=at, seconds=seconds, caller=caller, callee=callee, codec="PCMU",
                registrar=registrar, is_scored=True)
