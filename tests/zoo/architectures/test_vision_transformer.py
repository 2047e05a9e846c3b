import pytest
import torch
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor

from outcrop.errors import ZooError
from outcrop_zoo.architectures import VisionTransformer


def as_timm_names_them(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return our weights under timm's names, queries, keys and values in one matrix."""
    renamed = {
        "cls_token": state.pop("class_token.token")[None, None],
        "pos_embed": state.pop("position.positions")[None],
        "patch_embed.proj.weight": state.pop("patches.weight"),
        "patch_embed.proj.bias": state.pop("patches.bias"),
    }
    for part in ("weight", "bias"):
        for block in {name.split(".")[1] for name in state if name.startswith("blocks")}:
            path = f"blocks.{block}.attention"
            renamed[f"blocks.{block}.attn.qkv.{part}"] = torch.cat(
                [state.pop(f"{path}.{name}.{part}") for name in ("query", "key", "value")]
            )
    for name, value in state.items():
        for ours, theirs in (
            *(("attention.projection", "attn.proj"), ("expand", "mlp.fc1")),
            *(("contract", "mlp.fc2"), ("classifier", "head")),
        ):
            name = name.replace(ours, theirs)
        renamed[name] = value
    return renamed


@pytest.mark.parametrize(("heads", "patch", "image"), [(1, 4, (3, 8, 8)), (3, 7, (1, 28, 14))])
def test_it_computes_what_timm_computes(heads: int, patch: int, image: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    ours = VisionTransformer(3, width=24, heads=heads, patch=patch, image=image, num_classes=5).eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs = TimmVisionTransformer(
        img_size=image[1:], patch_size=patch, in_chans=image[0], num_classes=5, embed_dim=24, depth=3, num_heads=heads
    ).eval()
    theirs.load_state_dict(as_timm_names_them(dict(ours.state_dict())))
    images = torch.randn(4, *image)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)


def test_attention_is_an_average_of_the_values() -> None:
    torch.manual_seed(0)
    attention = VisionTransformer(1, width=8, heads=2).blocks[0].attention
    weights: list[Tensor] = []
    attention.softmax.register_forward_hook(lambda *call: weights.append(call[-1]))
    attention(torch.randn(3, 65, 8))
    assert weights[0].shape == (3, 2, 65, 65)
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(3, 2, 65))


def test_without_positions_the_order_of_the_patches_does_not_matter() -> None:
    torch.manual_seed(0)
    network = VisionTransformer(2, width=16, heads=2, patch=16).eval()
    images = torch.rand(2, 3, 32, 32)
    swapped = torch.cat([images[..., 16:], images[..., :16]], dim=-1)
    with torch.no_grad():
        assert not torch.allclose(network(images), network(swapped), rtol=0, atol=1e-8)
        network.position.positions.zero_()
        torch.testing.assert_close(network(images), network(swapped), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("width", "heads", "parameters"), [(192, 3, 5_717_416), (768, 12, 86_567_656)])
def test_parameters_are_as_many_as_published(width: int, heads: int, parameters: int) -> None:
    # Tiny (arXiv 2012.12877) and Base (arXiv 2010.11929) on patches of 16 pixels.
    with torch.device("meta"):
        network = VisionTransformer(12, width=width, heads=heads, patch=16, image=(3, 224, 224), num_classes=1000)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("depth", [1, 3])
def test_a_block_has_fifteen_operations(depth: int) -> None:
    network = VisionTransformer(depth, width=8)
    assert sum(1 for module in network.modules() if not any(module.children())) == 15 * depth + 6


def test_kernels_start_small_and_biases_at_zero() -> None:
    torch.manual_seed(0)
    for name, parameter in VisionTransformer(1, width=128).named_parameters():
        if parameter.ndim > 1 or name.endswith("token"):
            assert float(parameter.detach().std()) == pytest.approx(0.02, rel=0.15), name
        elif name.endswith("bias"):
            assert not parameter.any(), name


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ZooError, match="got width 30 and 4 heads. Choose a multiple of 4, such as 32"):
        VisionTransformer(2, width=30)


@pytest.mark.parametrize("wrong", [{"depth": 0}, {"depth": 1, "patch": 0}, {"depth": 1, "heads": 0}])
def test_other_numbers_of_which_there_is_none_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ZooError, match="A vision transformer is built of whole numbers of at least 1; got .* 0"):
        VisionTransformer(**{"width": 8, **wrong})
