"""`ray job submit --working-dir . -- python jobs/sweep.py jobs/configs/demo.yaml [section.key=value ...]`: what `paft sweep` does."""

import sys

from paft_ray.cli.main import job

if __name__ == "__main__":
    job("sweep", sys.argv[1:])
