"""Fuzzing: what every input must do, one target per file, each `target(data: bytes)`; run by tests/fuzz/run.py,
replayed by tests/hostile/test_fuzz.py."""
