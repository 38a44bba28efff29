"""From findings to the plan of one graph: which rewrites fix which, at what cost, and what has to leave the unit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import fx
from torch.export import ExportedProgram

from hilsim.compiler.findings import Finding
from hilsim.compiler.fine import settled_doubts
from hilsim.compiler.islands import Islands, islands_of
from hilsim.compiler.nodes import constants_of, folded_inside, operands, operator_of, place_of
from hilsim.compiler.operator_costs import constant_numbers, work_of, work_of_all, working_set
from hilsim.compiler.pass_time import HEAD, PassTime, slow_findings
from hilsim.compiler.plan import Chosen, GraphPlan, Option
from hilsim.compiler.program import copied
from hilsim.compiler.rewrite.apply import insert, traced
from hilsim.compiler.rewrite.axes import MERGED, merge_reshapes
from hilsim.compiler.rewrite.constants import REWRITES as CLAMPS
from hilsim.compiler.rewrite.formats import PASSES
from hilsim.compiler.rewrite.integers import CAVEAT, int64_to_int32
from hilsim.compiler.rewrite.integers import NAME as NARROW
from hilsim.compiler.rewrite.record import Rewrite
from hilsim.compiler.rewrite.registry import rewrites_for
from hilsim.compiler.site import CompileSite
from hilsim.compiler.slow.loops import UNROLLED
from hilsim.compiler.slow.registry import slow_patterns
from hilsim.compiler.whole_graph import cut_finding, launch_finding
from hilsim.describe.compiled import Extra, Work

EXACTNESS = ("bits", "values", "rounding")  # from the most exact on: what is exact needs no new accuracy test


@dataclass(frozen=True)
class Candidate:
    """A rewrite traced over one node's shapes, with its cost."""

    rewrite: Rewrite
    graph: fx.GraphModule
    more: Work
    seconds: float
    working_bytes: int
    held_bytes: int  # constants that lie in the graph
    worries: int  # operators of its own of unknown standing

    @property
    def rank(self) -> tuple[int, int, float, float]:
        """Known before unknown, exact before rounded and that before approximate, quick before slow."""
        return self.worries, EXACTNESS.index(self.rewrite.exactness), self.rewrite.bound, self.seconds

    @property
    def option(self) -> Option:
        nbytes = self.working_bytes + self.held_bytes
        return Option(self.rewrite.name, self.seconds, nbytes, self.rewrite.exactness, self.rewrite.caveat)


def plan_graph(
    name: str,
    rows: int,
    program: ExportedProgram,
    site: CompileSite,
    *,
    repeats: float = 1.0,
    layers: str = "",
    decoder: bool = False,
) -> GraphPlan:
    """Plan one graph and rewrite `program` in place accordingly.

    Modules whose path begins with `layers` stand for `repeats` of themselves in the deployed model. A `decoder` has
    the clock of decoders.
    """
    book, nodes = site.book, len(program.graph.nodes)
    clock = PassTime(site, constants_of(program), repeats, layers, decoder=decoder)
    slow = slow_findings(slow_patterns(program, clock), clock, name)
    loops = any(found.name == UNROLLED.name for found in slow)  # which has those launches in it
    whole = [None if loops else launch_finding(program, clock, name)]
    fine = settled_doubts(program, clock)
    computed = [node for node in program.graph.nodes if node.op == "call_function" and node not in clock.constants]
    operators = len(set(map(operator_of, computed)))
    findings = book.findings(program, name)
    errors = errors_of(findings)
    chosen, rewritten = fix_by_rewrites(program, site, errors, repeats, layers)
    left = errors_of(book.findings(program, name)) if chosen else errors
    passed, more = passes(program, site, name, left)
    if passed:  # what came in with them may want mending in its turn
        again, further = fix_by_rewrites(program, site, errors_of(book.findings(program, name)), repeats, layers)
        chosen, rewritten = [*chosen, *passed, *again], rewritten + more + further
    if site.profile.integers != "native" and site.asks_for(NARROW):
        chosen.append(narrowed(program))
    left = errors_of(book.findings(program, name)) if chosen else errors
    wrong = {found.node for found in left if found.node and found.rule != "dynamic-shape"}
    islands = islands_of(program, wrong, layers, round(repeats))
    refusals = [*whole_graph_refusals(left), *away_refusals(left, islands, site)]
    constants = constants_of(program)
    head = work_of_all((node for node in program.graph.nodes if place_of(node).module.startswith(HEAD)), constants)
    extra = Extra(rewritten + head, islands.away, islands.crossings)
    seconds, away_s, crossing_s = site.costs(extra, rows)
    whole.append(cut_finding(islands, program.graph.nodes, clock, site.unit_with_fallback, left, name))
    return GraphPlan(
        name=name, rows=rows, nodes=nodes, repeats=repeats, findings=tuple(findings), chosen=tuple(chosen),
        pieces=islands.pieces, crossings=islands.crossings, away=islands.nodes, away_operators=islands.operators,
        head=head, extra=extra, extra_s=seconds, away_s=away_s, crossing_s=crossing_s, refusals=tuple(refusals),
        slow=(*slow, *(found for found in whole if found is not None)), operators=operators, fine=fine,
    )  # fmt: skip


def fix_by_rewrites(
    program: ExportedProgram, site: CompileSite, errors: Sequence[Finding], repeats: float, layers: str
) -> tuple[list[Chosen], Work]:
    """Use the best rewrite at every node that has an error; what they add outside of the head, layers multiplied."""
    by_name = {node.name: node for node in program.graph.nodes}
    constants = constants_of(program)
    far = {found.node for found in errors if found.rule == "constant-range"}
    known: dict[object, list[Candidate]] = {}
    uses: dict[tuple[str, str], list[tuple[fx.Node, Candidate, list[Option]]]] = defaultdict(list)
    extra = Work()
    for node in dict.fromkeys(by_name[found.node] for found in errors if found.node in by_name):
        if node.op != "call_function":
            continue
        key = (signature_of(node, constants), node.name in far)
        if key not in known:
            found = candidates(node, site, constants, CLAMPS if node.name in far else None)
            known[key] = sorted(found, key=lambda candidate: candidate.rank)
        if not known[key]:
            continue
        best, *others = known[key]
        module = place_of(node).module
        uses[best.rewrite.name, operator_of(node)].append((node, best, [other.option for other in others]))
        if not module.startswith(HEAD):
            extra = extra + best.more * (round(repeats) if layers and module.startswith(layers) else 1)
        insert(program, node, best.graph, best.rewrite.name)
    return [use_of(name, operator, entries, layers, repeats) for (name, operator), entries in uses.items()], extra


def errors_of(findings: Iterable[Finding]) -> list[Finding]:
    return [found for found in findings if found.severity == "error"]


def passes(program: ExportedProgram, site: CompileSite, graph: str, errors: list[Finding]) -> tuple[list[Chosen], Work]:
    """Passes over the whole program that take an error away, or that the user asks for, in place; what they add."""
    chosen: list[Chosen] = []
    extra = Work()
    if (
        any(MERGED in found.rewrites for found in errors)
        and site.may_use(MERGED)
        and (nodes := merge_reshapes(program))
    ):
        title, source = "a reshape of a reshape as one, without what stood between", "microsoft/onnxruntime PR 26338"
        merged = Chosen(
            name=MERGED, title=title, operator="aten.view.default", nodes=nodes, exactness="bits", source=source
        )
        chosen.append(merged)
    for entry in PASSES:
        wrong = [found for found in errors if entry.name in found.rewrites]
        if not (wrong and site.may_use(entry.name)) and not site.asks_for(entry.name):
            continue
        tried = copied(program)
        try:
            nodes = entry.run(tried)
        except ValueError:
            continue  # an operator that has no other form
        left = errors_of(site.book.findings(tried, graph))
        if not nodes or (wrong and len([found for found in left if entry.name in found.rewrites]) >= len(wrong)):
            continue
        before = work_of_all(program.graph.nodes, constants_of(program))
        entry.run(program)
        more = work_of_all(program.graph.nodes, constants_of(program)) - before
        kinds = " and ".join(entry.types[:1] if len(entry.types) < 3 else ("small integers",))
        chosen.append(
            Chosen(
                name=entry.name, title=entry.title, operator=kinds, nodes=nodes, exactness=entry.exactness,
                caveat=entry.caveat, source=entry.source, work=more, seconds=site.seconds(more),
            )
        )  # fmt: skip
        extra = extra + more
    return chosen, extra


def narrowed(program: ExportedProgram) -> Chosen:
    """64-bit integers made 32-bit ones, in place; converters do it too, so it is done here only where asked for."""
    changed = int64_to_int32(program)
    title, source = "one cast behind each input, 32 bits inside", "pytorch/executorch _passes/i64_to_i32.py"
    return Chosen(
        name=NARROW, title=title, operator="int64", nodes=changed, exactness="bits", caveat=CAVEAT, source=source
    )


def use_of(
    name: str,
    operator: str,
    entries: list[tuple[fx.Node, Candidate, list[Option]]],
    layers: str,
    repeats: float,
) -> Chosen:
    """All uses of one rewrite on one operator, as one line of the plan."""
    rewrite = entries[0][1].rewrite
    work, seconds, held = Work(), 0.0, 0
    for node, candidate, _ in entries:
        times = round(repeats) if layers and place_of(node).module.startswith(layers) else 1
        work, seconds = work + candidate.more * times, seconds + candidate.seconds * times
        held += candidate.held_bytes * times
    return Chosen(
        name=name, title=rewrite.title, operator=operator, module=place_of(entries[0][0]).module, nodes=len(entries),
        exactness=rewrite.exactness, caveat=rewrite.caveat, source=rewrite.source, work=work, seconds=seconds,
        working_bytes=max(candidate.working_bytes for _, candidate, _ in entries), held_bytes=held,
        others=tuple(entries[0][2]),
    )  # fmt: skip


def candidates(
    node: fx.Node, site: CompileSite, constants: set[fx.Node], among: Sequence[Rewrite] | None = None
) -> Iterable[Candidate]:
    """The rewrites of a node that the user allows, that fit, and whose own operators the compiler takes.

    `among` are those that take away what is wrong, where not any will do.
    """
    for rewrite in rewrites_for(operator_of(node)):
        if (among is not None and rewrite not in among) or not site.may_use(rewrite.name) or rewrite.fits(node):
            continue
        try:
            graph = traced(rewrite, node)
        except (ValueError, RuntimeError, NotImplementedError):
            continue  # a shape that the rewrite has no form for
        own = [inner for inner in graph.graph.nodes if inner.op == "call_function"]
        known, book = folded_inside(graph, node.all_input_nodes, constants), site.book
        errors = [found for inner in own if inner not in known for found in book.about(inner, known, "")]
        # Reshapes to many dimensions at its ends go away with the reshapes around them, or are told afterwards.
        if any(
            (found.severity == "error" and MERGED not in found.rewrites) or found.rule == "constant-range"
            for found in errors
        ):
            continue
        more = work_of_all(own, known) - work_of(node, constants)
        working, held = site.bytes(working_set(own, known)), site.bytes(constant_numbers(own, known))
        worries = len({found.operator for found in errors if found.rule == "operator-unknown"})
        yield Candidate(rewrite, graph, more, site.seconds(more), working, held, worries)


def signature_of(node: fx.Node, constants: set[fx.Node]) -> object:
    """Nodes of equal signature are rewritten alike: operator, shapes, which argument is which, who uses which output.

    What fits is part of it, as that may hang on more than shapes: the value of a fill.
    """
    sources = node.all_input_nodes
    shapes = tuple((*map(str, tensor.shape), str(tensor.dtype), str(tensor.stride())) for tensor in operands(node))

    def argument(source: fx.Node) -> str:
        return f"%{sources.index(source)}{' known' if source in constants else ''}"

    plain = fx.node.map_arg((node.args, dict(node.kwargs)), argument)
    users = tuple(sorted((str(user.target), str(user.args[1:])) for user in node.users))
    fitting = tuple(rewrite.name for rewrite in rewrites_for(operator_of(node)) if not rewrite.fits(node))
    return operator_of(node), shapes, str(plain), users, fitting


def whole_graph_refusals(errors: Iterable[Finding]) -> Iterable[str]:
    """Errors about the graph as a whole, which no island helps."""
    for found in errors:
        if not found.node or found.rule == "dynamic-shape":
            yield f"{found.graph}: {found.reason}. Remedy: {found.remedy}."


def away_refusals(errors: Iterable[Finding], islands: Islands, site: CompileSite) -> Iterable[str]:
    """Why operators cannot leave the unit, where they would have to."""
    if not islands.nodes:
        return
    if site.allowed.fallback == "forbid":
        why = "and the scenario forbids fallback"
    elif site.profile.elsewhere == "nowhere":
        why = f"and {site.profile.name} has nowhere else to run it"
    elif site.unit_with_fallback.fallback is None:
        why = "and the unit's file has no fallback figures"
    else:
        return
    unmended = "rewrites are switched off" if site.allowed.rewrites == "none" else "no rewrite that may be used applies"
    reported: set[str] = set()
    for found in errors:
        if found.node in islands.nodes and found.operator not in reported:
            reported.add(found.operator)
            remedy = f" Remedy: {found.remedy}." if found.remedy else ""
            yield f"{found.operator} at {found.place}: {found.reason}, {unmended}, {why}.{remedy}"
