"""Linear layers whose float32 products a CPU works out at the full width of its vectors.

torch hands float32 products to MKL, which uses half of a vector unit for AVX-512 where the CPU is not Intel's. There
oneDNN, which every build of torch for x86 carries, is 2.2 times as fast; sums differ by rounding. Elsewhere, under
autocast and in small products this is F.linear.

Shapes: K inputs, N outputs, M rows.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from rnafold.model.chunks import is_plain_on_cpu, is_traced

# Products of fewer multiplications than this cost less than the call from Python.
LEAST_MULTIPLICATIONS = 2**19
# The same of each of many small products, which torch works out in one call.
LEAST_OF_EACH = 2**23

# Gradients of products with more inputs or outputs than this stay with MKL: oneDNN's work space for them, of a size of
# its own for each shape, breaks up the heap (2.1 instead of 1.7 GiB in a training of many lengths up to 256).
MOST_IN_GRADIENTS = 2**20


def has_wide_products() -> bool:
    """Whether this machine and this torch have oneDNN's product of dense tensors for AVX-512."""
    has_units = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return has_units and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


HAS_WIDE_PRODUCTS = has_wide_products()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (.., K) times weight (N, K) transposed, plus bias (N,)."""
    if not _is_wide(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _multiply_with_gradient(x, weight, bias)
    return _multiply(x, weight, bias)


def linear_each(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (B, R, K) times weights (B, N, K) transposed, one by one, plus bias (N,): (B, R, N)."""
    # a traced batch stands for any: it cannot be taken apart
    if is_traced() or not _is_wide(x[0], weight[0], LEAST_OF_EACH):
        return torch.baddbmm(bias, x, weight.transpose(1, 2))
    return torch.stack([linear(one, its, bias) for one, its in zip(x, weight)])


def _is_wide(x: Tensor, weight: Tensor, least: int = LEAST_MULTIPLICATIONS) -> bool:
    return HAS_WIDE_PRODUCTS and is_plain_on_cpu(x) and weight.dtype == x.dtype and x.numel() * len(weight) >= least


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rows: Tensor = torch.ops.mkldnn._linear_pointwise(x.flatten(0, -2), weight, bias, "none", [], "")
    # no view: what is made here may be added to in place
    result: Tensor = torch.ops.aten._unsafe_view(rows, [*x.shape[:-1], len(weight)])
    return result


class _WideProduct(torch.autograd.Function):
    """`linear` by oneDNN, and its gradients by products of the same kind."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        gradient = gradients[0].contiguous()
        rows = gradient.flatten(0, -2)
        return (
            _multiply_back(gradient, weight) if of_x else None,
            multiply_rows(rows, x.flatten(0, -2)) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def _multiply_back(gradient: Tensor, weight: Tensor) -> Tensor:
    """Gradient (.., N) of outputs times weight (N, K)."""
    if max(gradient.numel(), gradient.numel() // len(weight) * weight.shape[1]) > MOST_IN_GRADIENTS:
        return gradient @ weight
    return _multiply(gradient, weight.t())


def multiply_rows(left: Tensor, right: Tensor) -> Tensor:
    """(N, K) left (M, N) transposed times right (M, K); of wide products the smaller one is laid out anew."""
    if max(left.numel(), right.numel()) > MOST_IN_GRADIENTS or not _is_wide(left, right.t()):
        return left.t() @ right
    if left.shape[1] <= right.shape[1]:
        return _multiply(left.t().contiguous(), right.t())
    return _multiply(right.t().contiguous(), left.t()).t()


_multiply_with_gradient: Callable[..., Tensor] = _WideProduct.apply


class Linear(nn.Linear):
    """torch's linear layer through `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """(.., K) to (.., N)."""
        return linear(input, self.weight, self.bias)
