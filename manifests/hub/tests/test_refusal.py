"""Where the text of a refusal appears, with the handlers of the installed Hub."""

import json
from types import SimpleNamespace

import pytest
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.handlers.base import BaseHandler

from labhands_hub.refusal import refusal


class Page(SimpleNamespace):
    """The parts of a handler that ``write_error`` uses."""

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
def test_the_text_is_shown_once(status, heading):
    error = refusal(status, "Not 100% yours.")
    page = Page(_jupyterhub_user=None)
    BaseHandler.write_error(page, status, exc_info=(type(error), error, None))
    assert (page.answer["status_message"], page.answer["message"]) == (heading, "Not 100% yours.")

    rest = Page()
    APIHandler.write_error(rest, status, exc_info=(type(error), error, None))
    assert json.loads(rest.answer) == {"status": status, "message": "Not 100% yours."}
