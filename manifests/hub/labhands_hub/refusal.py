"""Errors whose text a user reads."""

from __future__ import annotations

from http.client import responses

from tornado.web import HTTPError


def refusal(status: int, words: str) -> HTTPError:
    """An HTTP error that shows ``words`` once on every page of the Hub, and in the answers of its REST API.

    JupyterHub 5 takes the text from two places: the form and REST from the error, the page of a pending start from ``jupyterhub_message``.
    JupyterHub 6 also puts the text into the heading of a page, unless the error has a reason, so it gets the status's standard reason.
    """
    error = HTTPError(status, words, reason=responses[status])
    error.jupyterhub_message = words  # type: ignore[attr-defined]
    return error
