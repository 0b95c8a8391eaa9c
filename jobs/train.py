"""`ray job submit --working-dir . -- python jobs/train.py jobs/configs/demo.yaml [section.key=value ...]`: what `paft train` does."""

import sys

from paft_ray.cli.main import job

if __name__ == "__main__":
    job("train", sys.argv[1:])
