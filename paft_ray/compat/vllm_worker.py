"""What vLLM's worker is given beside its own methods (0.32.0). Imports no vLLM by itself: the engine's process names it
by its path."""

from __future__ import annotations

from typing import Any

WORKER_EXTENSION = "paft_ray.compat.vllm_worker.TiedHeads"
"""Engine argument `worker_extension_cls`."""


class TiedHeads:
    """Mixed into vLLM's worker."""

    model_runner: Any

    def refresh_tied_heads(self) -> None:
        """Makes output heads that are the input embedding compute with its weights as they are now.

        On a CPU vLLM computes a layer with a packed copy of its weights. Reloading packs a layer whose weights are in
        the file anew, and a tied head is not in it: it would go on with the head of the weights before.
        """
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

        for layer in self.model_runner.get_model().modules():
            if isinstance(layer, ParallelLMHead):
                layer.quant_method.process_weights_after_loading(layer)
