"""`ray job submit --working-dir . -- python jobs/score.py jobs/configs/demo.yaml [section.key=value ...]`: what `paft score` does."""

import sys

from paft_ray.cli.main import job

if __name__ == "__main__":
    job("score", sys.argv[1:])
