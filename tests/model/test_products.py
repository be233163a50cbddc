"""What is written for a CPU gives what torch's own path gives, with its gradients."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rnafold.model import products
from rnafold.model.attention import Attention, attend, rotary_angles
from rnafold.model.layers import TransformerBlock, draw_kept

needs_wide = pytest.mark.skipif(
    not products.HAS_WIDE_PRODUCTS, reason="a CPU without AVX-512 or a torch without oneDNN"
)


def run(work: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The result and the gradients of a weighted sum of it."""
    asked = [x.clone().requires_grad_() for x in inputs]
    out = work(*asked)
    torch.manual_seed(1)
    out.backward(torch.randn_like(out))
    return [out.detach(), *(x.grad for x in asked if x.grad is not None)]


def assert_close(ours: list[Tensor], torchs: list[Tensor]) -> None:
    """To the rounding of float32 sums."""
    assert len(ours) == len(torchs)
    for one, other in zip(ours, torchs):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


@needs_wide
@pytest.mark.parametrize("shape", [(64, 96, 192), (2, 40, 192, 96)])
def test_a_wide_product_and_its_gradients_are_those_of_torch(shape: tuple[int, ...]) -> None:
    *rows, inputs, outputs = shape
    x, weight, bias = torch.randn(*rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    found = products.linear(x.clone().requires_grad_(), weight)
    assert "WideProduct" in type(found.grad_fn).__name__
    assert_close(run(products.linear, x, weight, bias), run(F.linear, x, weight, bias))


@needs_wide
def test_a_wide_product_may_be_added_to_in_place_and_needs_no_gradient_of_its_weight() -> None:
    x, weight = torch.randn(8, 64, 96, requires_grad=True), torch.randn(64, 96)
    products.linear(x, weight).add_(1.0).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, weight.sum(0).expand_as(x), atol=1e-4)


def test_small_products_half_precision_and_autocast_stay_with_torch() -> None:
    x, weight = torch.randn(512, 96, requires_grad=True), torch.randn(192, 96)
    with torch.autocast("cpu", torch.bfloat16):
        assert products.linear(x, weight).dtype == torch.bfloat16
    assert products.linear(x.to(torch.bfloat16), weight.to(torch.bfloat16)).dtype == torch.bfloat16
    assert "WideProduct" not in type(products.linear(x[:2], weight).grad_fn).__name__


@pytest.mark.parametrize("length", [4, 96])
def test_products_one_by_one_are_those_of_a_batch(length: int) -> None:
    x, weight, bias = torch.randn(3, length, 48), torch.randn(3, length * 48, 48), torch.randn(length * 48)
    expected = run(lambda x, w, b: torch.bmm(x, w.transpose(1, 2)) + b, x, weight, bias)
    assert_close(run(products.linear_each, x, weight, bias), expected)


def test_attention_with_biases_that_train_is_torchs_own() -> None:
    batch, length, width, heads = 2, 20, 96, 4
    attention = Attention(width, heads)
    rotary = rotary_angles(torch.arange(length).expand(batch, -1), width // heads)
    bias = torch.randn(batch, heads, length, length)
    bias[1, ..., 15:] = -torch.inf

    def through_torch(x: Tensor, bias: Tensor) -> Tensor:
        projected = attention.project_in(x).view(batch, length, 3, heads, -1)
        found: Tensor = attention.project_out(attend(projected, rotary, bias))
        return found

    x = torch.randn(batch, length, width)
    assert_close(run(lambda x, bias: attention(x, rotary, bias), x, bias), run(through_torch, x, bias))


def test_dropout_keeps_its_share_and_its_mean() -> None:
    torch.manual_seed(0)
    kept = draw_kept(torch.empty(301, 333), 0.2)
    assert kept.unique().tolist() == pytest.approx([0.0, 1.25], rel=1e-4)
    assert float((kept == 0).float().mean()) == pytest.approx(0.2, abs=0.005)


def test_a_layer_drops_in_training_alone_and_the_same_after_the_same_seed() -> None:
    block = TransformerBlock(32, 4, 64, 0.5)
    x, mask = torch.randn(2, 8, 32), torch.ones(2, 1, 1, 8, dtype=torch.bool)
    rotary = rotary_angles(torch.arange(8).expand(2, -1), 8)
    outs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outs.append(block(x, rotary, mask))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])
    block.eval()
    assert torch.equal(block(x, rotary, mask), block(x, rotary, mask))
