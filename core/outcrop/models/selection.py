"""Choose layers of a model: by preset, name, pattern, kind, index or predicate."""

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Protocol, Union

from outcrop.errors import LayerNotFoundError, did_you_mean
from outcrop.models.activations import is_activation
from outcrop.models.model import LAYER_KINDS, Layer

Selection = Union[str, int, slice, "re.Pattern[str]", Callable[[Layer], bool], Sequence["Selection"]]
"""See :func:`select_layers`."""

PRESETS: Mapping[str, str] = {
    "all": "every layer",
    "block": "outputs of blocks",
    "act": "every value after an activation function",
    "output": "outputs of the model",
}


class Layered(Protocol):
    """What has layers to choose from: a model, or the part of one that a study holds."""

    name: str
    layers: tuple[Layer, ...]

    def layer(self, name: str) -> Layer:
        """Return a layer by its name or an alias."""
        ...


def select_layers(model: Layered, selection: Selection) -> tuple[Layer, ...]:
    """Return the chosen layers in topological order, each once.

    Args:
        model: Whose layers.
        selection: A preset (``all``, ``block``, ``act``, ``output``), a name or alias, a glob (``layer1.*.bn?``),
            ``kind:conv``, ``/regex/`` (searched in the name) or several of these with commas between; a position
            (negative from the end), a slice, a compiled pattern, a predicate on :class:`Layer`, or a sequence of
            any of these.

    Raises:
        LayerNotFoundError: A part of the selection matches nothing; near names are suggested.
    """
    chosen = {layer.index for layer in _choose(model, selection)}
    return tuple(layer for layer in model.layers if layer.index in chosen)


def _choose(model: Layered, selection: Selection) -> Sequence[Layer]:
    if isinstance(selection, str):
        return _choose_text(model, selection)
    if isinstance(selection, bool):
        raise LayerNotFoundError(f"{selection} selects no layer; give a name, a pattern, a position or a function.")
    if isinstance(selection, int):
        return _choose_position(model, selection)
    if isinstance(selection, slice):
        return _some(model, model.layers[selection], f"the slice {selection.start}:{selection.stop}:{selection.step}")
    if isinstance(selection, re.Pattern):
        return _choose_pattern(model, selection)
    if callable(selection):
        name = getattr(selection, "__name__", "the function")
        return _some(model, [layer for layer in model.layers if selection(layer)], f"the predicate {name}")
    if isinstance(selection, Sequence):
        return _some(model, [layer for part in selection for layer in _choose(model, part)], "an empty sequence")
    raise LayerNotFoundError(
        f"A {type(selection).__name__} selects no layer; give a name, a pattern, a position or a function."
    )


def _choose_text(model: Layered, text: str) -> Sequence[Layer]:
    text = text.strip()
    if text.startswith("/") and text.endswith("/") and len(text) > 2 and "/,/" not in text:
        try:
            return _choose_pattern(model, re.compile(text[1:-1]))
        except re.error as error:
            raise LayerNotFoundError(f"{text!r} is not a regular expression: {error}.") from error
    if text in {layer.name for layer in model.layers}:
        return (model.layer(text),)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) != 1 or parts[0] != text:
        return _some(model, [layer for part in parts for layer in _choose_text(model, part)], repr(text))
    if text.startswith("kind:"):
        return _choose_kind(model, text.removeprefix("kind:"))
    if text in PRESETS:
        return _choose_preset(model, text)
    if any(character in text for character in "*?["):
        found = [layer for layer in model.layers if fnmatchcase(layer.name, text)]
        if not found:
            raise LayerNotFoundError(f"No layer of model {model.name!r} matches {text!r}.{_near(model, text)}")
        return found
    return (model.layer(text),)


def _choose_preset(model: Layered, preset: str) -> Sequence[Layer]:
    if preset == "all":
        return model.layers
    if preset == "act":
        found = [
            layer
            for layer in model.layers
            if layer.kind == "act" or (layer.kind in ("block", "output") and is_activation(layer.operation))
        ]
        return _some(model, found, "the preset 'act'")
    found = [layer for layer in model.layers if layer.kind == preset]
    if preset == "output" and not found:
        return model.layers[-1:]  # a network whose last value is a block
    return _some(model, found, f"the preset {preset!r}")


def _choose_kind(model: Layered, kind: str) -> Sequence[Layer]:
    if kind not in LAYER_KINDS:
        raise LayerNotFoundError(
            f"There is no kind of layer {kind!r}.{did_you_mean(kind, LAYER_KINDS)} Kinds: {', '.join(LAYER_KINDS)}."
        )
    return _some(model, [layer for layer in model.layers if layer.kind == kind], f"'kind:{kind}'")


def _choose_position(model: Layered, position: int) -> Sequence[Layer]:
    count = len(model.layers)
    if not -count <= position < count:
        raise LayerNotFoundError(f"Model {model.name!r} has {count} layers, 0 to {count - 1}; there is no {position}.")
    return (model.layers[position],)


def _choose_pattern(model: Layered, pattern: "re.Pattern[str]") -> Sequence[Layer]:
    found = [layer for layer in model.layers if pattern.search(layer.name)]
    if not found:
        text = f"/{pattern.pattern}/"
        raise LayerNotFoundError(f"No layer of model {model.name!r} matches {text}.{_near(model, pattern.pattern)}")
    return found


def _some(model: Layered, found: Sequence[Layer], what: str) -> Sequence[Layer]:
    if not found:
        present = {layer.kind for layer in model.layers}
        kinds = ", ".join(kind for kind in LAYER_KINDS if kind in present)
        raise LayerNotFoundError(f"Model {model.name!r} has no layer for {what}; its layers are of kind {kinds}.")
    return found


def _near(model: Layered, text: str) -> str:
    return did_you_mean(text.replace("*", ""), [layer.name for layer in model.layers])
