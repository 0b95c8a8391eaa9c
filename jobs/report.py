"""`paft report` as a cluster job, with the same options.

ray job submit --working-dir . -- python jobs/report.py jobs/configs/demo.yaml --set storage=/shared/runs
"""

import sys

from paft_ray.cli.main import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
