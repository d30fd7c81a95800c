"""Errors whose words a user reads."""

from __future__ import annotations

from tornado.web import HTTPError


def refusal(status: int, words: str) -> HTTPError:
    """An HTTP error that shows ``words`` on every page of the Hub.

    The form's page and the REST API show the text of an ``HTTPError``, the page of a pending start shows ``jupyterhub_message`` only.
    ``reason=`` would replace both, so it is not set.
    """
    # HTTPError takes its text for a format: a percent sign in it must be doubled.
    error = HTTPError(status, words.replace("%", "%%"))
    error.jupyterhub_message = words  # type: ignore[attr-defined]
    return error
