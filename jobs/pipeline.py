"""`ray job submit --working-dir . -- python jobs/pipeline.py jobs/configs/demo.yaml [section.key=value ...]`: what `paft run` does."""

import sys

from paft_ray.cli.main import job

if __name__ == "__main__":
    job("run", sys.argv[1:])
