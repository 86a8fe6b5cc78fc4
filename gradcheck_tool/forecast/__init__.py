"""Chains and whole graphs → what theory says of their gradients, or the reason why it says nothing.

`Forecaster` reads each weight once, and goes through the graph at most once a question.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, fx, nn

from gradcheck_tool.chains import Block, Call, Structure
from gradcheck_tool.forecast.functions import FunctionReader
from gradcheck_tool.forecast.graph import GraphReader, Plan
from gradcheck_tool.forecast.layers import LayerReader, NoForecast, check_tied
from gradcheck_tool.forecast.norms import NORM_KINDS, fresh_norm
from gradcheck_tool.ops import Kind
from gradcheck_tool.results import Forecast
from gradcheck_tool.theory import (
    NoPredictionError,
    Norm,
    Pass,
    Prediction,
    Stage,
    Weights,
    backward,
    forward,
    predict,
)

__all__ = ["NORM_KINDS", "Forecast", "Forecaster"]

_ON_META = "there are no weights to read (the model is on the meta device)"


@dataclass(frozen=True)
class _Flow:
    """A whole net, passed through: natural logs of the squared gradient norm behind each vertex."""

    plan: Plan
    forward: Pass
    log_energies: Sequence[float]

    def decades(self, first: Call, last: Call) -> Prediction:
        """log10 of the output-gradient norm at one call over that at another."""
        ends = [self.log_energies[self.plan.calls[call]] if call in self.plan.calls else None for call in (first, last)]
        if ends[0] is None or ends[1] is None:
            return Prediction(None, "it does not lead to the model's output")
        if not all(map(math.isfinite, ends)):  # type: ignore[arg-type]
            return Prediction(None, "no gradient at all reaches one of its ends")
        return Prediction(0.5 * (ends[0] - ends[1]) / math.log(10))


class Forecaster:
    """Predicts chains of one model, and the model as a whole. Weights are read once a layer."""

    def __init__(self, model: nn.Module, structure: Structure) -> None:
        self.model = model
        self.structure = structure
        self._calls = {call.node: call for call in structure.calls}
        self._layers = LayerReader(model)
        self._functions = FunctionReader(model, structure, self._layers)
        self._graph = GraphReader(model, structure, self._layers, self._functions)
        self._on_meta = any(parameter.is_meta for parameter in model.parameters())

    # -- questions -----------------------------------------------------------------------------------------------------

    def predict(self, chain: Sequence[Block]) -> Prediction:
        """The predicted change of the gradient norm over a chain.

        Where the chain is all of what lies between its ends, its inputs are taken to be of unit second moment. Where
        the graph joins or forks between them, it is the whole net that is followed, from inputs of unit second moment.
        """
        return self._predict(chain, {}, lambda: self._flow)

    def predict_with_norms(
        self,
        chain: Sequence[Block],
        kind: str = "batch",
        *,
        batch_size: int | None = None,
        behind: Collection[Block] | None = None,
    ) -> Prediction:
        """What a chain would be predicted to do with norms inserted, each between a block's layer and its activation.

        Args:
            chain: blocks of one chain.
            kind: "batch", "layer", "group", "instance" or "rms"; freshly initialized.
            batch_size: samples in a batch, for batch norm; as in the inputs of the graph where None.
            behind: the blocks that get a norm; all of them where None.

        Raises:
            ValueError: there is no such kind.
        """
        if self._on_meta:
            return Prediction(None, _ON_META)
        chosen = chain if behind is None else [block for block in chain if block in behind]
        try:
            norms = {block.call.node: self._fresh_norm(block, kind, batch_size) for block in chosen}
        except NoForecast as reason:
            return Prediction(None, str(reason))
        return self._predict(chain, norms, lambda: self._passed_through(norms))

    def predict_fixed(self, chains: Sequence[Sequence[Block]], kind: str = "batch") -> list[Prediction]:
        """What each of several chains would be predicted to do with a norm behind every block of all of them, as `fix`
        inserts them; None of a chain in which a block takes no such norm. At most one pass through the whole net."""
        norms: dict[fx.Node, Norm] = {}
        refused: dict[int, str] = {}
        for index, chain in enumerate(chains):
            for block in chain:
                try:
                    norms[block.call.node] = self._fresh_norm(block, kind, None)
                except NoForecast as reason:
                    refused.setdefault(index, str(reason))
        whole: list[_Flow | str] = []

        def passed() -> _Flow | str:
            if not whole:
                whole.append(self._passed_through(norms))
            return whole[0]

        return [
            Prediction(None, refused[index]) if index in refused else self._predict(chain, norms, passed)
            for index, chain in enumerate(chains)
        ]

    def _fresh_norm(self, block: Block, kind: str, batch_size: int | None) -> Norm:
        node = block.call.node
        try:
            return fresh_norm(kind, tuple(node.meta["shape"]), self._graph.axis_of(node), batch_size)
        except NoForecast as reason:
            raise NoForecast(f"behind {block.name}: {reason}") from reason

    def forecast(self) -> Forecast:
        """The whole model: the change of the output-gradient norm from its first to its last weight layer, and of how
        far samples differ in what these layers read."""
        calls = [call for call in self.structure.calls if call.node in self.structure.reaches_output]
        if len(calls) < 2:
            return Forecast(None, None, None, "there are not two weight layers to compare")
        over = (calls[0].name, calls[-1].name)
        if self._on_meta:
            return Forecast(None, over, None, _ON_META)
        flow = self._flow
        if isinstance(flow, str):
            return Forecast(None, over, None, flow)
        found = flow.decades(calls[0], calls[-1])
        return Forecast(found.decades, over, _spread(flow, calls[0], calls[-1]), found.reason)

    def weight_gradient_decades(self) -> float | None:
        """log10 of the norm of the *weight* gradient of the first over that of the last weight layer, where samples
        (and positions) get gradients that are independent of each other; None where it is not known."""
        flow = self._flow
        calls = [call for call in self.structure.calls if call.node in self.structure.reaches_output]
        if isinstance(flow, str) or len(calls) < 2 or not all(call in flow.plan.calls for call in calls):
            return None
        first, last = (_log_weight_gradient(flow, flow.plan.calls[call]) for call in (calls[0], calls[-1]))
        return 0.5 * (first - last) / math.log(10) if math.isfinite(first) and math.isfinite(last) else None

    # -- the whole graph -----------------------------------------------------------------------------------------------

    @cached_property
    def _flow(self) -> _Flow | str:
        """The whole net passed through, or why not."""
        return self._passed_through({})

    def _passed_through(self, norms: Mapping[fx.Node, Norm]) -> _Flow | str:
        if self._on_meta:
            return _ON_META
        try:
            plan = self._graph.plan(norms)
            found = forward(plan.network)
        except (NoForecast, NoPredictionError) as reason:
            return str(reason)
        return _Flow(plan, found, backward(found, plan.starts))

    # -- one chain -----------------------------------------------------------------------------------------------------

    def _predict(
        self, chain: Sequence[Block], norms: Mapping[fx.Node, Norm], whole: Callable[[], _Flow | str]
    ) -> Prediction:
        if self._on_meta:
            return Prediction(None, _ON_META)
        if len(chain) == 1:
            return Prediction(0.0)
        reason = None
        if not self._forks(chain):
            try:
                return predict(list(self._stages(chain, norms)))
            except NoForecast as error:
                reason = str(error)
        flow = whole()
        if isinstance(flow, str):
            return Prediction(None, reason or flow)
        return flow.decades(chain[0].call, chain[-1].call)

    def _forks(self, chain: Sequence[Block]) -> bool:
        """Whether a gradient comes back into the chain, between its ends, from anywhere but its last block."""
        flow, reaches = self.structure.flow, self.structure.reaches_output
        for position, block in enumerate(chain):
            if position == len(chain) - 1:
                break
            own = [] if self._own_function(block) else [block.call.node, *block.inside]
            for node in [*own, block.activation, *chain[position + 1].path]:
                if sum(user in reaches and self._graph.depends[user] for user in flow.users[node]) > 1:
                    return True
        return False

    def _own_function(self, block: Block) -> bool:
        return self.structure.operations[block.activation].kind is not Kind.ACTIVATION

    def _stages(self, chain: Sequence[Block], norms: Mapping[fx.Node, Norm]) -> Iterator[Stage]:
        counts = Counter(block.call.layer for block in chain)
        for position, block in enumerate(chain):
            if position:
                for node in block.path:
                    yield from self._passing(node)
            own_function = self._own_function(block)
            inside = [] if own_function else block.inside
            weights = self._layers.unread(block.call, self._bias_among(inside))
            if counts[block.call.layer] > 1:
                check_tied(block.call.layer, counts[block.call.layer], weights.read())
            yield weights
            if position == len(chain) - 1:
                return
            if block.call.node in norms:
                yield norms[block.call.node]
            bias = self._bias_among(inside)
            for node in inside:
                if bias is None or self._graph.passing.added_parameter(node) is None:
                    yield from self._passing(node)
            if own_function:
                yield self._functions.spelled_out(block.call.node, block.activation, block.name)
            else:
                yield self._functions.named(block.activation)

    def _passing(self, node: fx.Node) -> Iterator[Stage]:
        """The stages of a node between two activations; none for one that leaves every element as it is."""
        operation = self.structure.operations[node]
        if node in self._calls:
            yield self._layers.unread(self._calls[node], None)
            return
        sources = self._graph.sources(node)
        if len(sources) != 1:
            raise NoForecast(f"the theory has no rule for {operation.name} between two of its blocks")
        if operation.kind is Kind.ACTIVATION:
            yield self._functions.named(node)
            return
        step = self._graph.passing.step(node, sources[0])
        if step is not None:
            yield step  # type: ignore[misc]

    def _bias_among(self, nodes: Sequence[fx.Node]) -> Tensor | None:
        found = (self._graph.passing.added_parameter(node) for node in nodes)
        return next((bias for bias in found if bias is not None), None)


def _spread(flow: _Flow, first: Call, last: Call) -> float | None:
    """log10 of √(1 − c) of what one layer reads over that of what another reads, c being the correlation of samples."""
    if first not in flow.plan.calls or last not in flow.plan.calls:
        return None
    reads = [flow.plan.network.vertices[flow.plan.calls[call]].reads[0] for call in (first, last)]
    before, after = (flow.forward.of(read).log_delta for read in reads)
    return 0.5 * (after - before) / math.log(10) if math.isfinite(after - before) else None


def _log_weight_gradient(flow: _Flow, vertex: int) -> float:
    """log ‖∂L/∂W‖² of gradients that differ from sample to sample: fan-in times E[x²] times ‖∂L/∂z‖². A batch norm
    straight behind has taken their mean over the samples out, so that only what differs of x counts."""
    step = flow.plan.network.vertices[vertex].step
    assert isinstance(step, Weights)
    into = flow.forward.of(flow.plan.network.vertices[vertex].reads[0])
    readers = [v.step for v in flow.plan.network.vertices if vertex in v.reads]
    centred = bool(readers) and all(isinstance(reader, Norm) and reader.over == "batch" for reader in readers)
    level = into.log_level + (into.log_delta if centred else 0.0)
    return flow.log_energies[vertex] + math.log(step.fan_in) + level
