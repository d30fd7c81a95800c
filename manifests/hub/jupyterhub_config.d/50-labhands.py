# Read by JupyterHub with all other files of this folder, in one namespace: the only name that it leaves there is the package's.
import sys

if "/usr/local/etc/jupyterhub" not in sys.path:
    sys.path.append("/usr/local/etc/jupyterhub")

import labhands_hub

labhands_hub.configure(c)  # noqa: F821
