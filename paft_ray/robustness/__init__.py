"""How robust is any model: those that `paft robustness` names are measured under a suite, without a run or a
training."""
