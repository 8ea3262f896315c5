"""Templates in the admin: offered or hidden, built, copied and deleted."""

from __future__ import annotations

import datetime

import pytest
from django.utils import timezone

from events.models import Event
from operations.models import Operation
from templates_app.models import Template
from tests.admin.shapes import page, press, said, text_of
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

BUILD = "/admin/templates_app/template/build/"
IMAGE = "https://cloud.example.org/debian-13.qcow2?signature=abc"


def test_a_template_is_offered_or_hidden_by_a_press(browser, cluster):
    template = Template.objects.get(name="debian-12")
    for verb, is_published in (("hide", False), ("publish", True)):
        press(browser, verb, template)
        template.refresh_from_db()
        assert template.is_published == is_published
    events = Event.objects.filter(kind="template.changed", actor="admin:ana")
    assert [event.data["changes"]["is_published"] for event in events.order_by("pk")] == [
        [True, False],
        [False, True],
    ]


def test_of_a_name_that_another_has_none_is_offered(browser, cluster):
    Template.objects.filter(name__in=["debian-12", "rocky-9"]).update(
        name="debian-12", is_published=False
    )
    for template in Template.objects.filter(name="debian-12"):
        assert "has a template debian-12 already" in str(said(press(browser, "publish", template)))
    assert not Template.objects.filter(name="debian-12", is_published=True).exists()
    assert not Event.objects.filter(kind="template.changed").exists()


def test_one_is_built_from_a_url_as_the_api_does(browser, cluster):
    assert "Build from URL" in text_of(browser.get(page(Template, "changelist")))
    offered = text_of(browser.get(BUILD))
    for value in ("windows", "pve3", "demo"):
        assert f'<option value="{value}"' in offered
    form = {"name": "debian-13", "url": IMAGE, "os_type": "linux", "disk_size": "5"}
    answer = browser.post(BUILD, form)
    assert answer.status_code == 302, answer.content.decode()
    task = Operation.objects.get()
    assert (task.kind, task.by) == ("build_template", "admin:ana")
    assert "signature" not in str(task.params)
    assert page(Operation, "change", task.pk) in said(answer)[0]
    draft = VirtualMachine.objects.subject_of(task).get()
    assert draft.name == "debian-13"


def test_what_the_api_would_refuse_stands_beside_its_field(browser, cluster):
    form = {
        "name": "-",
        "url": "ftp://x",
        "checksum": "12",
        "disk_size": "many",
        "os_type": "linux",
    }
    text = text_of(browser.post(BUILD, form))
    assert text.count('class="iz-error"') >= 4
    assert not Operation.objects.exists()
    taken = {"name": "debian-12", "url": IMAGE, "os_type": "linux"}
    assert "debian-12" in text_of(browser.post(BUILD, taken))
    assert not Operation.objects.exists()


def test_viewers_build_nothing(viewers_browser, cluster):
    assert "Build from URL" not in text_of(viewers_browser.get(page(Template, "changelist")))
    assert viewers_browser.get(BUILD).status_code == 403
    assert viewers_browser.post(BUILD, {"name": "x"}).status_code == 403


def test_one_on_local_storage_is_copied_to_a_node(browser, cluster):
    template = Template.objects.get(name="rocky-9")
    text = text_of(press(browser, "copy", template))
    assert f'<option value="{template.node}"' not in text
    press(browser, "copy", template, node="pve3", storage="")
    task = Operation.objects.get()
    assert (task.kind, task.by) == ("copy_template", "admin:ana")
    again = press(browser, "copy", template, node="pve3", storage="")
    assert str(task.uuid) in said(again)[-1]


def test_its_page_says_where_vms_of_it_can_be(browser, cluster):
    everywhere, local = (Template.objects.get(name=name) for name in ("debian-12", "rocky-9"))
    text = text_of(browser.get(page(Template, "change", everywhere.pk)))
    assert "pve, pve2, pve3" in text
    assert "do/copy/" not in text
    text = text_of(browser.get(page(Template, "change", local.pk)))
    assert "pve2; elsewhere a VM of it is made there and moved" in text
    assert "do/copy/" in text


def test_one_is_deleted_after_it_was_asked_for(browser, cluster, work):
    template = Template.objects.get(name="debian-12")
    assert "destroyed with its disks" in text_of(press(browser, "delete", template))
    assert not Operation.objects.exists()
    press(browser, "delete", template, sure="yes")
    assert work(Operation.objects.get()).state == "succeeded"
    template.refresh_from_db()
    assert template.missing_since is not None


def test_one_that_is_gone_leaves_the_list_after_a_day_and_keeps_its_page(browser, cluster):
    gone = Template.objects.get(name="debian-12")
    for hours, is_listed in ((1, True), (25, False)):
        since = timezone.now() - datetime.timedelta(hours=hours)
        Template.objects.filter(pk=gone.pk).update(missing_since=since)
        assert ("debian-12" in text_of(browser.get(page(Template, "changelist")))) is is_listed
        assert "missing" in text_of(browser.get(page(Template, "change", gone.pk)))
