"""CUDA's autocast rules on a torch built for the CPU, so that a mixed-precision CUDA step can be traced without a card.

The rules are registered on the AutocastCPU key of the whole process: call this in a subprocess only (planner.worker).
Source: https://docs.pytorch.org/docs/stable/amp.html#cuda-op-specific-behavior
"""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.library import Library

# Operations that CUDA autocasts to float32.
FLOAT32_OPS = """
    acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow.Tensor_Scalar
    pow.Tensor_Tensor pow.Scalar softplus layer_norm native_layer_norm group_norm cosine_similarity nll_loss
    nll_loss2d hinge_embedding_loss kl_div l1_loss smooth_l1_loss huber_loss mse_loss margin_ranking_loss
    multilabel_margin_loss soft_margin_loss triplet_margin_loss multi_margin_loss binary_cross_entropy_with_logits
    dist pdist cdist renorm logsumexp norm.Scalar norm.ScalarOpt_dim prod prod.dim_int softmax.int log_softmax.int
    cumprod cumsum linalg_vector_norm linalg_matrix_norm sum sum.dim_IntList
"""
_LOW = (torch.float16, torch.bfloat16)


def _raise_precision(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in _LOW else value
    if isinstance(value, (list, tuple)):
        return type(value)(_raise_precision(item) for item in value)
    return value


def _in_float32(operation: Any, *args: Any, **kwargs: Any) -> Any:
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)
    with torch._C._ExcludeDispatchKeyGuard(keys):
        return operation(*_raise_precision(args), **{k: _raise_precision(v) for k, v in kwargs.items()})


def install_cuda_policy() -> Library:
    """Registers the rules for this process; they hold as long as the returned object lives."""
    library = Library("aten", "IMPL")
    for name in FLOAT32_OPS.split():
        base, _, overload = name.partition(".")
        operation = getattr(getattr(torch.ops.aten, base, None), overload or "default", None)
        if operation is not None:
            library.impl(name, functools.partial(_in_float32, operation), "AutocastCPU", allow_override=True)
    return library
