"""Attention maps: what fused attention computes, against an explicit computation."""

import math
import warnings

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 # the field's own name for it

from outcrop.errors import ModelLoadError
from outcrop.models import TorchModel, load_model
from outcrop.models.attention import attention_weights


def captured(model: TorchModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    names = [layer.name for layer in model.layers]
    model.visit(inputs, names, lambda layer, values: found.update({layer.name: values.clone()}))
    assert list(found) == names
    return found


def by_hand(query: Tensor, key: Tensor, mask: np.ndarray | None, scale: float) -> np.ndarray:
    """Return attention weights of (sample, head, token, feature), one number at a time, in float64."""
    q, k = query.double().numpy(), key.double().numpy()
    samples, heads, tokens, _ = q.shape
    groups = heads // k.shape[1]
    weights = np.zeros((samples, heads, tokens, k.shape[2]))
    for sample, head, token in np.ndindex(samples, heads, tokens):
        scores = [float(q[sample, head, token] @ other) * scale for other in k[sample, head // groups]]
        if mask is not None:
            scores = [score + float(extra) for score, extra in zip(scores, mask[sample, head, token], strict=True)]
        if max(scores) == -math.inf:
            continue
        powers = [math.exp(score - max(scores)) for score in scores]
        weights[sample, head, token] = [power / sum(powers) for power in powers]
    return weights


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["none", "bool", "float", "causal", "empty row"]),
    grouped=st.booleans(),
    scale=st.sampled_from([None, 0.3]),
    seed=st.integers(0, 99),
)
def test_weights_are_those_of_an_explicit_computation_and_give_what_fused_attention_gives(
    kind: str, grouped: bool, scale: float | None, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(2, 4, 5, 3, generator=generator)
    key, value = (torch.randn(2, 2 if grouped else 4, 5, 3, generator=generator) for _ in range(2))
    mask: Tensor | None = None
    if kind in ("bool", "empty row"):
        mask = torch.rand(2, 1, 5, 5, generator=generator) > 0.4
        mask[..., 0] = True
        if kind == "empty row":
            mask[1, :, 2] = False
    elif kind == "float":
        mask = torch.randn(2, 4, 5, 5, generator=generator)
    options = {"attn_mask": mask, "is_causal": kind == "causal", "scale": scale, "enable_gqa": grouped}
    weights = attention_weights(query, key, value, **options)
    extra = None
    if mask is not None:
        added = mask.double() if mask.dtype != torch.bool else torch.zeros(mask.shape).masked_fill(~mask, -math.inf)
        extra = added.expand(2, 4, 5, 5).numpy()
    elif kind == "causal":
        extra = np.broadcast_to(np.triu(np.full((5, 5), -math.inf), 1), (2, 4, 5, 5))
    expected = by_hand(query, key, extra, scale or 3**-0.5)
    np.testing.assert_allclose(weights.numpy(), expected, atol=1e-6)
    fused = F.scaled_dot_product_attention(query, key, value, **options)
    grown = value.repeat_interleave(2, 1) if grouped else value
    torch.testing.assert_close(weights @ grown, fused, atol=2e-6, rtol=1e-5)


def test_half_precision_is_computed_in_full_and_rounded_once() -> None:
    query, key = (torch.randn(1, 2, 6, 8, generator=torch.Generator().manual_seed(k)).bfloat16() for k in (0, 1))
    weights = attention_weights(query, key)
    assert weights.dtype == torch.bfloat16
    expected = attention_weights(query.float(), key.float())
    assert torch.equal(weights, expected.bfloat16())


def of_timm(name: str, *, attention_maps: bool) -> TorchModel:
    model = load_model(f"timm:{name}?pretrained=false" + "&attention_maps=true" * attention_maps, device="cpu")
    assert isinstance(model, TorchModel)
    return model


def test_fused_attention_of_timm_is_a_layer_when_asked_for_and_else_not() -> None:
    plain, mapped = (of_timm("test_vit", attention_maps=asked) for asked in (False, True))
    maps = [layer.name for layer in mapped.layers if layer.operation == "softmax"]
    assert maps == [f"blocks.{block}.attn.softmax" for block in range(6)]
    assert [layer.name for layer in mapped.layers if layer.name not in maps] == [layer.name for layer in plain.layers]
    layer = mapped.layer("blocks.0.attn.softmax")
    assert (layer.kind, layer.dims) == ("attention", ("head", "token", "token_key"))
    x = torch.randn(3, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    values, without = captured(mapped, {"input": x}), captured(plain, {"input": x})
    for name, expected in without.items():
        assert torch.equal(values[name], expected)
    assert torch.equal(mapped.forward({"input": x}), plain.forward({"input": x}))
    weights = values["blocks.0.attn.softmax"]
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    # The same network with its attention written out has the same layer, of its own accord.
    for module in mapped.network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    written = TorchModel(mapped.network, input_shape=(3, 160, 160))
    explicit = captured(written, {"input": x})
    for name in maps:
        torch.testing.assert_close(values[name], explicit[name], atol=1e-6, rtol=1e-5)
        assert written.layer(name).dims == layer.dims


class Attends(nn.Module):
    """One module of attention over tokens, which does or does not return its weights."""

    def __init__(self, need_weights: bool, *, causal: bool = False) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.need_weights = need_weights
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if self.causal else None
        y, _ = self.attention(x, x, x, need_weights=self.need_weights, attn_mask=mask, is_causal=self.causal)
        return y + x


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_attention_has_a_map_of_each_head_whether_it_returns_weights_or_not(
    need_weights: bool, causal: bool
) -> None:
    torch.manual_seed(0)
    network = Attends(need_weights, causal=causal)
    model = TorchModel(network, input_shape=(5, 8), attention_maps=True)
    x = torch.randn(3, 5, 8)
    found = captured(model, {"input": x})
    layer = model.layer("attention.softmax")
    assert (layer.kind, layer.shape, layer.dims) == ("attention", (2, 5, 5), ("head", "token", "token_key"))
    mask = nn.Transformer.generate_square_subsequent_mask(5) if causal else None
    with torch.no_grad():
        _, weights = network.eval().attention(x, x, x, need_weights=True, average_attn_weights=False, attn_mask=mask)
    torch.testing.assert_close(found["attention.softmax"], weights)
    with torch.no_grad():
        torch.testing.assert_close(found[model.layers[-1].name], network(x))
    plain = TorchModel(network, input_shape=(5, 8))
    assert [layer.name for layer in plain.layers] == [
        other.name for other in model.layers if other.name != "attention.softmax"
    ]


def test_only_asked_for_maps_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = of_timm("test_vit", attention_maps=True)
    x = {"input": torch.randn(1, 3, 160, 160)}
    calls = []
    softmax = torch.softmax
    _ = model.layers
    monkeypatch.setattr(torch, "softmax", lambda *args, **options: calls.append(1) or softmax(*args, **options))
    model.visit(x, ["blocks.1.attn.softmax", "blocks.5"], lambda *_: None)
    assert len(calls) == 1


def test_a_language_model_of_transformers_has_maps_that_respect_its_mask() -> None:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=20,
        max_position_embeddings=16,
    )  # fmt: skip
    from outcrop.models import InputSpec

    inputs = [InputSpec("input_ids", (7,), "int64"), InputSpec("attention_mask", (7,), "int64")]
    network = BertModel(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = TorchModel(network, inputs=inputs, keywords=True, attention_maps=True)
        batch = {"input_ids": torch.randint(0, 30, (2, 7)), "attention_mask": torch.ones(2, 7, dtype=torch.int64)}
        batch["attention_mask"][1, 4:] = 0
        found = captured(model, batch)
        network.eval().set_attn_implementation("eager")
        with torch.no_grad():
            expected = network(**batch, output_attentions=True).attentions
    names = [f"encoder.layer.{layer}.attention.self.softmax" for layer in range(2)]
    assert [layer.name for layer in model.layers if layer.operation == "softmax"] == names
    for name, weights in zip(names, expected, strict=True):
        torch.testing.assert_close(found[name], weights, atol=1e-6, rtol=1e-5)
        assert float(found[name][1, :, :, 4:].abs().max()) == 0


def test_windows_keep_their_heads_apart() -> None:
    model = of_timm("test_maxvit", attention_maps=True)
    maps = [layer for layer in model.layers if layer.operation == "softmax"]
    assert maps
    assert all(layer.shape[-1] == layer.shape[-2] for layer in maps)


def test_maps_of_a_network_without_attention_are_refused() -> None:
    model = of_timm("test_resnet", attention_maps=True)
    with pytest.raises(ModelLoadError, match=r"'test_resnet' computes no attention, so it has no maps; leave"):
        _ = model.layers


def test_the_option_belongs_to_torch_networks() -> None:
    with pytest.raises(ModelLoadError, match=r"attention_maps belongs to torch modules .* '\?attention_maps=true'"):
        load_model("timm:test_vit", attention_maps=True)
    network = timm.create_model("test_vit", pretrained=False)
    loaded = load_model(network, attention_maps=True, input_shape=(3, 160, 160))
    assert loaded.layer("blocks.0.attn.softmax").kind == "attention"


def test_a_token_that_may_attend_to_nothing_has_no_weights_in_a_module_of_attention() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            mask = torch.zeros(x.shape[1], x.shape[1], dtype=torch.bool)
            mask[2] = True  # true is left out, for this module
            return self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]

    torch.manual_seed(0)
    model = TorchModel(Padded(), input_shape=(5, 8), attention_maps=True)
    weights = captured(model, {"input": torch.randn(3, 5, 8)})["attention.softmax"]
    assert float(weights[:, :, 2].abs().max()) == 0
    torch.testing.assert_close(weights[:, :, :2].sum(-1), torch.ones(3, 2, 2))
    broken = torch.randn(3, 5, 8)
    broken[0, 1] = float("nan")
    assert bool(captured(model, {"input": broken})["attention.softmax"][0].isnan().any())


def test_the_command_lists_maps_where_the_reference_asks_for_them() -> None:
    import json

    from click.testing import CliRunner

    from outcrop.cli.layers import command

    arguments = ["timm:test_vit?pretrained=false&attention_maps=true", "--layers", "/softmax/", "--json"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    layers = json.loads(result.output)["layers"]
    assert [layer["name"] for layer in layers] == [f"blocks.{block}.attn.softmax" for block in range(6)]
    assert layers[0]["dims"] == ["head", "token", "token_key"]
    assert layers[0]["bytes_per_sample"] == 2 * 101 * 101 * 4
