#!/usr/bin/env python3
"""Git's credential helper of a lab: asks the Hub for the user's token each time, so that no file contains it.

It runs in the lab with the image's Python, uses only the standard library, and prints no credentials if there is no token: git then asks
the user. Protocol: git-credential(1).
"""

import json
import os
import sys
import urllib.parse
import urllib.request


def main() -> None:
    """Answers ``get`` for the one host that it is configured for; ``store`` and ``erase`` do nothing."""
    if sys.argv[1:] != ["get"]:
        return
    # Not `/user`, where the Hub leaves the token out.
    request = urllib.request.Request(
        os.environ["JUPYTERHUB_API_URL"] + "/users/" + urllib.parse.quote(os.environ["JUPYTERHUB_USER"], safe=""),
        headers={"Authorization": "token " + os.environ["JUPYTERHUB_API_TOKEN"]},
    )
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            token = (json.load(answer).get("auth_state") or {}).get("access_token")
    except Exception as error:
        print(f"git-credential-hub: the Hub returned no token: {error}", file=sys.stderr)
        return
    if token:
        print(f"username=x-access-token\npassword={token}")
    else:
        print("git-credential-hub: the Hub has no token for you; log out and in again", file=sys.stderr)


main()
