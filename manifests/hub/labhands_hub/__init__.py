"""JupyterHub configuration of Labhands: menu, login, identity and home.

Read in this order: ``settings`` (the environment), ``catalogue`` (which images exist), ``sizes`` and ``menu`` (what a
user may choose), ``github``, ``grace`` and ``login`` (who may log in), ``identity`` (who the user is on the file system), ``pod`` (what
the lab pod gets) and ``start`` (why a start fails). ``configure`` is the only entry point; ``jupyterhub_config.d/50-labhands.py`` calls
it. ``plain`` is for a Hub without Helm.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from . import login, menu, pod
from .settings import Environment

__all__ = ["configure"]


def configure(c: Any, environment: Mapping[str, str] = os.environ) -> None:
    """Configures the Hub whose configuration object is ``c``.

    Raises ``SystemExit`` with one line for each wrong setting.
    """
    env = Environment(environment)
    menu_settings = menu.Settings.read(env)
    login_settings = login.Settings.read(env)
    pod_settings = pod.Settings.read(env)
    login.require_client(env, c, login_settings)
    env.refuse_problems()
    login.configure(c, login_settings)
    menu.configure(c, menu_settings)
    pod.configure(c, pod_settings, login_settings)
