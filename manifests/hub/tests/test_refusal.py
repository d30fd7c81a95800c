"""Where the words of a refusal appear, by the handlers of the Hub that is installed."""

import json
from types import SimpleNamespace

import pytest
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.handlers.base import BaseHandler

from labhands_hub.refusal import refusal


class Page(SimpleNamespace):
    """What ``write_error`` uses of a handler."""

    def set_header(self, *_):
        pass

    clear_header = set_header

    def render_template(self, _template, **values):
        return values

    def write(self, answer):
        self.answer = answer


@pytest.mark.parametrize(
    "status, heading", [(403, "Forbidden"), (409, "Conflict"), (500, "Internal Server Error"), (503, "Service Unavailable")]
)
def test_the_words_are_shown_once(status, heading):
    error = refusal(status, "Not 100% yours.")
    page = Page(_jupyterhub_user=None)
    BaseHandler.write_error(page, status, exc_info=(type(error), error, None))
    assert (page.answer["status_message"], page.answer["message"]) == (heading, "Not 100% yours.")

    rest = Page()
    APIHandler.write_error(rest, status, exc_info=(type(error), error, None))
    assert json.loads(rest.answer) == {"status": status, "message": "Not 100% yours."}
