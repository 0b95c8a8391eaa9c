"""`paft evaluate` as a cluster job, with the same options.

ray job submit --working-dir . -- python jobs/evaluate.py jobs/configs/demo.yaml --set storage=/shared/runs
"""

import sys

from paft_ray.cli.main import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
