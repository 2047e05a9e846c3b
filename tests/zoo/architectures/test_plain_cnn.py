import pytest
import torch
from torch import Tensor, nn

from outcrop.errors import ZooError
from outcrop_zoo.architectures import CifarResNet, PlainCnn


class BranchOnly(nn.Module):
    def forward(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        return branch


def test_it_computes_what_a_resnet_computes_without_its_shortcuts() -> None:
    torch.manual_seed(0)
    plain, residual = PlainCnn(14, width=2).eval(), CifarResNet(14, width=2).eval()
    missing, unexpected = residual.load_state_dict(plain.state_dict(), strict=False)
    assert sorted(missing) == [f"stage{stage}.0.shortcut.{part}" for stage in (2, 3) for part in ("bias", "weight")]
    assert unexpected == []
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(plain(images), residual(images))
        for stage in (residual.stage1, residual.stage2, residual.stage3):
            for block in stage:
                block.add = BranchOnly()
        assert torch.equal(plain(images), residual(images))


@pytest.mark.parametrize(("depth", "width"), [(8, 1), (14, 3), (38, 1)])
def test_only_the_projections_of_the_resnet_are_gone(depth: int, width: int) -> None:
    plain, residual = (
        sum(p.numel() for p in kind(depth, width=width).parameters()) for kind in (PlainCnn, CifarResNet)
    )
    projections = (16 * 32 + 32 * 64) * width**2 + (32 + 64) * width
    assert residual - plain == projections


@pytest.mark.parametrize(("depth", "blocks"), [(8, 1), (38, 6)])
def test_six_operations_are_left_of_a_block(depth: int, blocks: int) -> None:
    assert sum(1 for module in PlainCnn(depth).modules() if not any(module.children())) == 6 * 3 * blocks + 6


@pytest.mark.parametrize("depth", [2, 9])
def test_another_depth_is_refused(depth: int) -> None:
    with pytest.raises(ZooError, match=rf"A plain CNN has depth 6n \+ 2 \(8, 14, 20, ...\); got depth {depth}"):
        PlainCnn(depth)
