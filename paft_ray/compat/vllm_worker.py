"""What vLLM's worker is given beside its own methods (0.32.0). The engine's process imports it by its path, before the
worker chooses its kernels. Imports vLLM."""

from __future__ import annotations

from typing import Any

import torch
from vllm import ir
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.platforms import current_platform

from paft_ray.compat.vllm import CPU_KERNELS

_VECTOR = 32
"""Elements; the kernels refuse a rest."""


class TiedHeads:
    """Mixed into vLLM's worker."""

    model_runner: Any

    def refresh_tied_heads(self) -> None:
        """Makes output heads that are the input embedding compute with its weights as they are now.

        On a CPU vLLM computes a layer with a packed copy of its weights. Reloading packs a layer whose weights are in
        the file anew, and a tied head is not in it: it would go on with the head of the weights before.
        """
        for layer in self.model_runner.get_model().modules():
            if isinstance(layer, ParallelLMHead):
                layer.quant_method.process_weights_after_loading(layer)


def _fits(x: torch.Tensor, weight: torch.Tensor | None, epsilon: float, variance_size: int | None = None) -> bool:
    """Whether the kernel may be asked: it reads rows one behind another, in vectors."""
    has_weight = weight is not None and weight.dtype == x.dtype
    return has_weight and variance_size is None and x.is_contiguous() and x.shape[-1] % _VECTOR == 0


def _fits_both(
    x: torch.Tensor,
    x_residual: torch.Tensor,
    weight: torch.Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> bool:
    return _fits(x, weight, epsilon, variance_size) and x_residual.is_contiguous() and x_residual.dtype == x.dtype


@ir.ops.rms_norm.register_impl(CPU_KERNELS, supports_args=_fits, supported=current_platform.is_cpu())
def rms_norm(
    x: torch.Tensor, weight: torch.Tensor | None, epsilon: float, variance_size: int | None = None
) -> torch.Tensor:
    """Root mean square normalization by vLLM's kernel for a CPU."""
    output = torch.empty_like(x)
    torch.ops._C.rms_norm(output, x, weight, epsilon)
    return output


@ir.ops.fused_add_rms_norm.register_impl(
    CPU_KERNELS, supports_args=_fits_both, supported=current_platform.is_cpu(), inplace=True
)
def fused_add_rms_norm(
    x: torch.Tensor,
    x_residual: torch.Tensor,
    weight: torch.Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Likewise of the sum with a residual, both in place."""
    torch.ops._C.fused_add_rms_norm(x, x_residual, weight, epsilon)
    return x, x_residual
