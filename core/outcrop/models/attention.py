"""Attention maps of fused attention: what each token attends to, which the fused operation never writes down."""

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

MAP = "softmax"
"""Operation, and last part of the name, of an attention map."""

MAP_DIMENSIONS = ("head", "token", "token_key")
"""Of one sample: the heads, the tokens that attend, and the tokens that they attend to."""


def attention_weights(
    query: Tensor,
    key: Tensor,
    value: Tensor | None = None,  # noqa: ARG001 # the weights do not depend on it
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001 # zero in evaluation mode
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return ``softmax(query key^T scale + mask)``, the weights (..., head, token, token_key) of fused attention.

    Takes what ``torch.nn.functional.scaled_dot_product_attention`` does, and does as its documentation says: a boolean
    mask is true where a token takes part, a token that may attend to nothing has weights of zero, and grouped heads
    share keys. Half precision is computed in float32. Dropout is none of a trained network's.

    Cost: one product of queries and keys, and head * token * token_key numbers per sample.
    """
    dtype = query.dtype
    if dtype in (torch.float16, torch.bfloat16):
        query, key = query.float(), key.float()
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        earlier = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~earlier, float("-inf"))
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, float("-inf")) if attn_mask.dtype == torch.bool else scores + attn_mask
    weights = torch.softmax(scores, dim=-1)
    nothing = (scores == float("-inf")).all(dim=-1, keepdim=True)
    return weights.masked_fill(nothing, 0.0).to(dtype)


def multi_head_weights(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Return the weights (sample, head, token, token_key) of a call of ``multi_head_attention_forward``.

    Cost: that call once more, with its attention written out.
    """
    call = _MULTI_HEAD.bind(*args, **kwargs)
    call.arguments |= {"need_weights": True, "average_attn_weights": False}
    _, weights = functional.multi_head_attention_forward(*call.args, **call.kwargs)
    assert weights is not None
    # Written out, a token that may attend to nothing has none of the zeros of fused attention.
    nothing = weights.isnan().all(dim=-1, keepdim=True)
    return weights if call.arguments["query"].isnan().any() else weights.masked_fill(nothing, 0.0)


_MULTI_HEAD = inspect.signature(functional.multi_head_attention_forward)
