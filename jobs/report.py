"""`ray job submit --working-dir . -- python jobs/report.py jobs/configs/demo.yaml [section.key=value ...]`: what `paft report` does."""

import sys

from paft_ray.cli.main import job

if __name__ == "__main__":
    job("report", sys.argv[1:])
