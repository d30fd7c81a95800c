# The configuration of a Hub without Helm. Zero to JupyterHub's chart has its own, which reads the same folder in the same way.
import sys
from pathlib import Path

folder = Path(__file__).parent
if str(folder) not in sys.path:
    sys.path.append(str(folder))

import labhands_hub.plain

labhands_hub.plain.configure(c)  # noqa: F821

for file in sorted((folder / "jupyterhub_config.d").glob("*.py")):
    exec(compile(file.read_text(), str(file), "exec"))
