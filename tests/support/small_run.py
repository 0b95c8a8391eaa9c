"""Settings that make a run of the demo as small as it gets, for tests that need a real one."""

SMALL = (
    "data.num_train=24",
    "data.num_validation=4",
    "data.num_test=4",
    "prompts.generators=[]",
    "train.num_steps=2",
    "train.global_batch=8",
    "train.micro_batch=4",
    "evaluate.latency_sample_rows=0",
)
ONE_ARM = (*SMALL, "score.enabled=false", "train.arms=[paft]")
