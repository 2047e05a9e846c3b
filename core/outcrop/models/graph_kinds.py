"""The kind of each value of a graph: by its operator, the torch function or the module that it is the result of."""

from collections.abc import Mapping, Sequence

from outcrop.models.activations import is_activation
from outcrop.models.graph import Graph
from outcrop.models.graph_roles import function_kind, node_kind
from outcrop.models.graph_scopes import Scope, containers_of, scope_of
from outcrop.models.kinds import class_kind
from outcrop.models.model import LayerKind

_LEAVES: tuple[LayerKind, ...] = ("conv", "linear", "norm", "pool")


class Roles:
    """What is known of the values of a graph, blocks and outputs not considered.

    Args:
        graph: Whole graph.
        shapes: Of one sample, by value.
        scopes: Of the nodes.
        outputs: Value that each module hands on, by path.
    """

    def __init__(
        self,
        graph: Graph,
        shapes: Mapping[str, tuple[int, ...]],
        scopes: Sequence[Scope | None],
        outputs: Mapping[str, str],
    ) -> None:
        self._graph = graph
        self._shapes = shapes
        self._scopes = scopes
        self._outputs = outputs
        self._containers = containers_of(scopes)
        self._nodes: dict[str, list[int]] = {}
        for index, scope in enumerate(scopes):
            if scope is not None:
                self._nodes.setdefault(scope.module, []).append(index)

    def is_folded(self, value: str) -> bool:
        """Return whether a convolution has taken up the batch norm that this is the output of."""
        scope, node = scope_of(self._graph, value, self._scopes), self._graph.nodes[self._graph.producer[value]]
        convolves = node_kind(self._graph, node, self._shapes) == "conv"
        return scope is not None and convolves and (scope.folded or function_kind(scope.function) == "norm")

    def kind(self, value: str, function: str | None) -> LayerKind:
        """Return the kind of a value.

        Args:
            value: Its name in the graph.
            function: The torch function that several nodes make up, of which this is the last.
        """
        if self.is_folded(value):
            return "norm"
        node = self._graph.nodes[self._graph.producer[value]]
        found = (function and function_kind(function)) or node_kind(self._graph, node, self._shapes)
        scope = scope_of(self._graph, value, self._scopes)
        hands_on = scope is not None and self._outputs.get(scope.module) == value
        if found != "other" or scope is None or not hands_on or scope.module in self._containers:
            return found
        if scope.class_name:
            return class_kind(scope.class_name)
        return self._leaf_kind(scope.module)

    def _leaf_kind(self, path: str) -> LayerKind:
        """Return the kind of a module without children whose class is not known, by the operators in it."""
        nodes = [self._graph.nodes[index] for index in self._nodes[path]]
        kinds = {node_kind(self._graph, node, self._shapes) for node in nodes}
        # A GELU that is written out ends with a product.
        if any(node.op_type == "Erf" or is_activation(node.op_type) for node in nodes):
            return "act"
        return next((kind for kind in _LEAVES if kind in kinds), "other")
