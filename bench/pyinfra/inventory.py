"""The stations for pyinfra: addresses and connection from the file that the bench wrote."""

import json
import os
from pathlib import Path

_plan = json.loads(Path(os.environ["BENCH_PLAN"]).read_text("utf-8"))
stations = [(name, {**_plan["connection"], "ssh_hostname": row["address"]}) for name, row in _plan["stations"].items()]
