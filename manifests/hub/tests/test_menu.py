import asyncio
import re
from datetime import UTC, date, datetime, timedelta

import pytest
from kubespawner import KubeSpawner
from tornado.web import HTTPError
from traitlets.config import Config

from conftest import Person, document, image
from labhands_hub import menu
from labhands_hub.catalogue import parse
from labhands_hub.menu import Choice, Menu, Settings, build, staleness
from labhands_hub.settings import Environment


def settings(**environment):
    env = Environment(environment)
    read = Settings.read(env)
    assert not env.problems
    return read


def menu_of(*images, options=None, groups=(), **environment) -> Menu:
    return build(parse(document(*images)), settings(**environment), Choice.read(options), groups)


def slugs(built):
    return [profile["slug"] for profile in built.profiles]


def others(built):
    return list(built.profiles[-1]["profile_options"]["image"]["choices"])


def test_wanted_labs_come_by_class_and_others_in_one_drop_down():
    built = menu_of(
        image("d_2026_11_28", **{"class": "daily"}),
        image("w_2026_48"),
        image("recommended", **{"class": "alias"}),
        image("w_2026_40", wanted=False),
        image("r29_1_1", **{"class": "release"}),
    )
    assert slugs(built) == ["recommended", "r29_1_1", "w_2026_48", "d_2026_11_28", "other"]
    assert others(built) == ["w_2026_40"]
    assert [profile["default"] for profile in built.profiles] == [True, False, False, False, False]


def test_a_lab_is_started_by_digest_and_a_tag_without_one_is_always_pulled():
    built = menu_of(image("w_2026_48"), image("w_2026_40", wanted=False, digest=None))
    pinned = built.profiles[0]["kubespawner_override"]
    assert re.fullmatch(r"registry\.example\.org/lsst/lab@sha256:[0-9a-f]{64}", pinned["image"])
    assert pinned["image_pull_policy"] == "IfNotPresent"
    moving = built.profiles[1]["profile_options"]["image"]["choices"]["w_2026_40"]["kubespawner_override"]
    assert (moving["image"], moving["image_pull_policy"]) == ("registry.example.org/lsst/lab:w_2026_40", "Always")


def test_a_description_shows_where_the_image_is():
    built = menu_of(image("w_2026_48"), image("w_2026_47", nodes=None, size=None))
    assert built.profiles[0]["description"] == "on 1 of 2 nodes, 2.5 GB compressed"
    assert built.profiles[1]["description"] == ""


@pytest.mark.parametrize(
    ("tag", "age"),
    [
        ("d_2026_11_29", "of today"),
        ("d_2026_11_28", "1 day old"),
        ("2026-11-02", "27 days old"),
        ("w_2026_48", "of this week"),
        ("w_2026_47_c0045.003", "1 week old"),
        ("w_2025_48", "52 weeks old"),
        ("w_2026_99", ""),
        ("d_2026_13_40", ""),
        ("d_2027_01_01", ""),
        ("r28_0_0", ""),
        ("4.2.1", ""),
    ],
)
def test_an_age_is_known_if_the_tag_has_a_date(tag, age):
    assert menu._age(tag, date(2026, 11, 29)) == age


def test_lab_image_names_the_preselected_one():
    images = [image("w_2026_48"), image("w_2026_47", aliases=["recommended"])]
    for name in ("w_2026_47", "recommended", "registry.example.org/lsst/lab:w_2026_47"):
        assert [profile["default"] for profile in menu_of(*images, LAB_IMAGE=name).profiles] == [False, True]
    assert [profile["default"] for profile in menu_of(*images, LAB_IMAGE="gone").profiles] == [True, False]


@pytest.mark.parametrize("tag", ["Exp--x", 'a"b', "w_2026_47.rc1", "other", "4.2.1", "x" * 100, "", "ä"])
def test_a_slug_is_safe_in_the_form(tag):
    (slug,) = slugs(menu_of(image(tag)))
    assert re.fullmatch(r"[a-z0-9_]+(-[a-z0-9_]+)*", slug) and slug != "other"


def test_one_tag_in_two_repositories_has_two_slugs():
    two = {"repository": "registry.example.org/b/lab", "reference": "registry.example.org/b/lab:w_2026_47"}
    built = menu_of(image("w_2026_47"), image("w_2026_47", **two))
    assert len(set(slugs(built))) == 2 and all(slug.startswith("w_2026_47-") for slug in slugs(built))


def test_names_are_escaped():
    built = menu_of(image("w_2026_47", name="<script>alert(1)</script>"), image("w_2026_46", wanted=False, name="<b>"))
    assert "<script>" not in str(built.profiles) and "<b>" not in str(built.profiles)


def test_a_saved_choice_follows_its_image():
    wanted, other = {"profile": "w_2026_47", "size": "large"}, {"profile": "other", "image": "w_2026_47", "size": "large"}
    radio = menu_of(image("w_2026_48"), image("w_2026_47"))
    drop_down = menu_of(image("w_2026_48"), image("w_2026_47", wanted=False))
    for saved in (wanted, other):
        assert radio.settle(Choice.read(saved)) == wanted
        assert drop_down.settle(Choice.read(saved)) == other


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ({"profile": "w_2020_01"}, "w_2020_01"),
        ({"profile": "other", "image": "w_2020_01"}, "w_2020_01"),
        ({"profile": "w_2026_47", "size": "gigantic"}, "gigantic"),
        ({"profile": ["w_2026_47"]}, "no longer on the menu"),
        ({"size": 7}, "7"),
    ],
)
def test_a_missing_choice_is_named_and_resets_the_form(saved, words):
    built = menu_of(image("w_2026_47"))
    assert words in built.fault(Choice.read(saved))
    assert built.settle(Choice.read(saved)) == {}


@pytest.mark.parametrize("saved", [None, {}, {"anything": "else"}, {"profile": "other"}])
def test_no_choice_is_not_a_fault(saved):
    built = menu_of(image("w_2026_47"))
    assert built.fault(Choice.read(saved)) is None and built.settle(Choice.read(saved)) == {}


def test_the_drop_down_is_bounded_and_keeps_the_saved_one():
    many = [image("w_2026_47"), *(image(f"old_{number}", wanted=False) for number in range(700))]
    built = menu_of(*many, options={"profile": "other", "image": "old_650"})
    assert len(others(built)) == menu.MOST_CHOICES + 1 and "old_650" in others(built)


def test_sizes_and_classes_by_group_apply_to_form_and_rest():
    sizes = '{"small": {"cpu": [1, 1], "memory": ["1G", "1G"]}, "large": {"cpu": [4, 8], "memory": ["8G", "8G"], "groups": ["Org:Big"]}}'
    images = [image("w_2026_47"), image("d_2026_11_28", **{"class": "daily"})]
    environment = {"LAB_SIZES": sizes, "LAB_CLASS_GROUPS": '{"daily": ["org:dev"]}'}
    everybody = menu_of(*images, groups=["org"], **environment)
    assert slugs(everybody) == ["w_2026_47"] and everybody.sizes == ("small",)
    assert everybody.fault(Choice("d_2026_11_28", None)) and everybody.fault(Choice(None, "large"))
    both = menu_of(*images, groups=["org", "org:big", "org:dev"], **environment)
    assert slugs(both) == ["w_2026_47", "d_2026_11_28"] and both.sizes == ("small", "large")


def test_a_user_without_any_lab_reads_why():
    with pytest.raises(HTTPError) as failure:
        menu_of(image("w_2026_47"), LAB_CLASS_GROUPS='{"weekly": ["org:dev"]}', groups=None)
    assert failure.value.status_code == 403 and "log out and in" in failure.value.jupyterhub_message


def test_an_old_catalogue_shows_its_age():
    catalogue, now = parse(document(image("w_2026_47"))), datetime.now(UTC)
    assert staleness(catalogue, None, 3600, now) == ""
    assert "no newer scan" in staleness(catalogue, None, 3600, now + timedelta(hours=2))
    assert "refused" in staleness(catalogue, "refused", 3600, now)
    part = parse(document(image("w_2026_47"), repositories=[{"name": "b/lab", "complete": False, "problem": "no answer"}]))
    assert "b/lab: no answer" in staleness(part, None, 3600, now)


class Spawner(KubeSpawner):
    """KubeSpawner without a cluster, in a start or not."""

    pending = None


def in_hub(work, tmp_path, body, pending=None, options=None, **environment):
    """Runs ``work(spawner)`` with KubeSpawner as the Hub configures it."""
    path = tmp_path / "catalogue.json"
    path.write_bytes(body)
    config = Config()
    menu.configure(config, settings(LAB_CATALOGUE=f"file://{path}", **environment))

    async def run():
        made = Spawner(_mock=True, config=config)
        made.user, made.user_options, made.pending = Person(state={"labhands_groups": ["org"]}), options or {}, pending
        await work(made)
        return made

    return asyncio.run(run())


def form(*arguments, **options):
    pages = []

    async def render(made):
        pages.append(await made.options_form(made))

    in_hub(render, *arguments, **options)
    return pages[0]


def checked(page):
    return re.findall(r'id="profile-item-([\w-]+)"\s+value="[\w-]+"\s+checked', page)


def test_kubespawners_form_shows_the_menu_with_the_saved_choice(tmp_path, two_labs):
    options = {"profile": "other", "image": "w_2026_46", "size": "large"}
    page = form(tmp_path, two_labs, options=options, LAB_SELECTOR_TITLE="Rubin <labs> {{ 7*191 }}")
    assert "Rubin &lt;labs&gt;" in page and "1337" not in page
    assert checked(page) == ["other"]


def test_a_missing_saved_choice_leaves_the_default_checked(tmp_path, two_labs):
    assert checked(form(tmp_path, two_labs, options={"profile": "w_2020_01"})) == ["w_2026_47"]


@pytest.mark.parametrize(
    ("options", "image_name"),
    [
        ({}, "registry.example.org/lsst/lab@sha256:"),
        ({"profile": "w_2026_47", "size": "large"}, "registry.example.org/lsst/lab@sha256:"),
        ({"profile": "w_2026_46"}, "registry.example.org/lsst/lab:w_2026_46"),
    ],
)
def test_a_start_takes_the_chosen_image_and_size(tmp_path, two_labs, options, image_name):
    made = in_hub(Spawner.load_user_options, tmp_path, two_labs, pending="spawn", options=options)
    assert made.image.startswith(image_name)
    assert made.cpu_limit == (4 if options.get("size") else 1)


def test_a_start_of_a_missing_choice_is_refused_with_a_reason(tmp_path, two_labs):
    with pytest.raises(HTTPError) as failure:
        in_hub(Spawner.load_user_options, tmp_path, two_labs, pending="spawn", options={"profile": "w_2020_01"})
    assert failure.value.status_code == 409 and "w_2020_01" in failure.value.jupyterhub_message
