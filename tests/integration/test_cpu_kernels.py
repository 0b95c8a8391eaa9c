"""vLLM's kernels for a CPU give what its own eager operations give, and are asked only what they can compute."""

from typing import Any

import pytest
import torch

from paft_ray.compat.vllm import CPU_KERNELS, cpu_kernels


@pytest.fixture(scope="module")
def operations() -> list[Any]:
    """vLLM's operations that have such a kernel: of rows, then of their sum with others."""
    from vllm import ir

    import paft_ray.compat.vllm_worker  # noqa: F401  (registers the kernels)

    return [getattr(ir.ops, name) for name in cpu_kernels()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalization_by_a_kernel_is_that_of_torch(operations: list[Any], dtype: torch.dtype) -> None:
    by_kernel, by_torch = ([op.impls[name].impl_fn for op in operations] for name in (CPU_KERNELS, "native"))
    torch.manual_seed(0)
    x, residual, weight = (torch.randn(shape, dtype=dtype) for shape in ((5, 64), (5, 64), (64,)))
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    torch.testing.assert_close(by_kernel[0](x, weight, 1e-5), by_torch[0](x, weight, 1e-5), **close)
    found, expected = (each[1](x.clone(), residual.clone(), weight, 1e-5) for each in (by_kernel, by_torch))
    torch.testing.assert_close(found, expected, **close)


@pytest.mark.parametrize("number", [0, 1])
def test_rows_that_are_not_one_behind_another_are_left_to_torch(operations: list[Any], number: int) -> None:
    op, priority = operations[number], list(cpu_kernels().values())[number]
    weight, wide = torch.ones(32), torch.randn(3, 4, 64)
    heads = wide[..., :32]  # as the queries of a layer, cut out of what it projects

    def provider(x: torch.Tensor, scale: torch.Tensor | None) -> str:
        return str(op.dispatch(x, *[x.clone()] * number, scale, 1e-5).provider)

    with op.set_priority(priority):
        assert provider(heads.contiguous(), weight) == priority[0]
        assert provider(heads, weight) == "native"
        assert provider(heads.contiguous(), weight.bfloat16()) == "native"
        assert provider(heads.contiguous(), None) == "native"
        assert provider(torch.randn(3, 40), torch.ones(40)) == "native", "no whole number of vectors"
