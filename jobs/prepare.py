"""`ray job submit --working-dir . -- python jobs/prepare.py jobs/configs/demo.yaml [section.key=value ...]`: what `paft prepare` does."""

import sys

from paft_ray.cli.main import job

if __name__ == "__main__":
    job("prepare", sys.argv[1:])
