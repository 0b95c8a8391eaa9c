"""`ray job submit --working-dir . -- python jobs/evaluate.py jobs/configs/demo.yaml [section.key=value ...]`: what `paft evaluate` does."""

import sys

from paft_ray.cli.main import job

if __name__ == "__main__":
    job("evaluate", sys.argv[1:])
