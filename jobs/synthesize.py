"""`ray job submit --working-dir . -- python jobs/synthesize.py jobs/configs/demo.yaml [section.key=value ...]`: what `paft synthesize` does."""

import sys

from paft_ray.cli.main import job

if __name__ == "__main__":
    job("synthesize", sys.argv[1:])
