"""What a measurement consists of, case by case, and how each kind of case is measured."""

from attrs import evolve, field, frozen

from tools.bench.cases import CASES, IDLE, MILLION, RETURN, SATURATED_CASES, UNHURRIED_CASES, WORKERS
from tools.bench.report import Holding, Round
from tools.bench.rounds import Tell, measure_case, measure_memory, measure_return
from tools.bench.servers import COMPARED, OURS, PURE, REFERENCE, SERVERS, TWO_WORKERS, Server

SHORT = (*(case.name for case in SATURATED_CASES), IDLE.name)
"""What is measured unless somebody asks for another choice."""

WHOLE = (*SHORT, *(case.name for case in UNHURRIED_CASES), MILLION.name, RETURN.name, WORKERS)

NAMES = (*CASES, IDLE.name, MILLION.name, RETURN.name, WORKERS)

IDLE_STARTS, MILLION_STARTS = 3, 1
UNHURRIED_SECONDS = 3.0
"""At least, for a round at a rate: 1,200 requests a second need a while to have a percentile."""

# A second configuration of the same server would say nothing new.
LEFT_OUT = {
    IDLE.name: ("kamailio-qm",),
    MILLION.name: ("kamailio-qm", "rollcall-pure", "rollcall-sqlite"),
    RETURN.name: ("kamailio-qm",),
    **{case.name: ("kamailio-qm", "rollcall-sqlite") for case in UNHURRIED_CASES},
}


@frozen(kw_only=True)
class Plan:
    """What was asked for; `servers` empty means those that the case is for."""

    rounds: int
    seconds: float
    servers: tuple[str, ...] = ()
    phones: int = IDLE.phones
    contacts: int = MILLION.phones


@frozen
class Findings:
    """What came out so far."""

    rounds: list[Round] = field(factory=list)
    holdings: list[Holding] = field(factory=list)

    def of(self, prefix: str) -> list[Round]:
        """Return the rounds of a case, or of several whose names begin alike."""
        return [one for one in self.rounds if one.case.startswith(prefix)]


def measure(name: str, plan: Plan, findings: Findings, tell: Tell) -> None:
    """Measure one case, adding to the findings. Raises BenchError."""
    if name == IDLE.name:
        case = evolve(IDLE, connections=plan.phones, phones=plan.phones)
        findings.holdings.extend(measure_memory(case, _readers(name, "tcp", plan), min(plan.rounds, IDLE_STARTS), tell))
    elif name == MILLION.name:
        case = evolve(MILLION, phones=plan.contacts)
        findings.holdings.extend(measure_memory(case, _readers(name, "udp", plan), MILLION_STARTS, tell))
    elif name == RETURN.name:
        findings.rounds.extend(measure_return(RETURN, _readers(name, "tcp", plan), plan.rounds, tell))
    elif name == WORKERS:
        findings.rounds.extend(_workers(plan, tell))
    else:
        case = CASES[name]
        seconds = max(plan.seconds, UNHURRIED_SECONDS) if case.rate else plan.seconds
        findings.rounds.extend(measure_case(case, taking_part(name, case.transport, plan), plan.rounds, seconds, tell))


def _workers(plan: Plan, tell: Tell) -> list[Round]:
    """One worker, and two that share both cores with their clients, which are in one process or two.

    The slow way takes part because there the server, not its clients, is what there is too little of.
    """
    names = plan.servers or (REFERENCE, OURS, PURE, *(server.name for server in TWO_WORKERS))
    made = []
    for clients, processes in (("one-client", 1), ("two-clients", 2)):
        case = evolve(CASES["tcp-refresh"], name=f"{WORKERS}-{clients}", connections=200, phones=200)
        servers = [SERVERS[name] for name in names if not SERVERS[name].canned]
        made += measure_case(case, servers, plan.rounds, plan.seconds, tell, processes=processes, core=None)
    return made


def taking_part(name: str, transport: str, plan: Plan) -> list[Server]:
    """Return the servers that a case over this transport is for, or those that were named."""
    if plan.servers:
        return [SERVERS[chosen] for chosen in plan.servers]
    return [
        server for server in COMPARED if transport in server.transports and server.name not in LEFT_OUT.get(name, ())
    ]


def _readers(name: str, transport: str, plan: Plan) -> list[Server]:
    """Those that read what they are sent."""
    return [server for server in taking_part(name, transport, plan) if not server.canned]
