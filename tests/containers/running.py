"""The pipeline in containers: `python -m tests.containers.running JOB.json`. A process of its own, since
KFP's runner is one for a process."""

import json
import os
import sys
from pathlib import Path

from kfp import components, local


def main(job_file: str) -> None:
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    os.umask(0)  # the containers' user writes into the folders that KFP makes
    runner = local.DockerRunner(
        network_mode="host",
        environment=job["environment"],
        read_only=True,
        tmpfs={"/tmp": "size=2g,mode=1777"},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
    )
    local.init(runner=runner, pipeline_root=job["pipeline_root"])
    components.load_component_from_file(job["pipeline"])(**job["parameters"])


if __name__ == "__main__":
    main(sys.argv[1])
