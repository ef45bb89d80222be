"""Drives every resource that Svix's Python client has and the document lists, against the gateway that the environment names.

Called by `tests/tests/clients.rs`. Ends with 0 if all of it held."""

import os
from datetime import datetime, timedelta, timezone

from svix.api import (
    AppPortalAccessIn,
    ApplicationIn,
    ApplicationListOptions,
    ApplicationPatch,
    EndpointCreateOptions,
    EndpointGetStatsOptions,
    EndpointHeadersIn,
    EndpointHeadersPatchIn,
    EndpointIn,
    EndpointListOptions,
    EndpointPatch,
    EndpointSecretRotateIn,
    EventExampleIn,
    EventTypeIn,
    EventTypeListOptions,
    EventTypePatch,
    MessageAttemptListByEndpointOptions,
    MessageAttemptListByMsgOptions,
    MessageCreateOptions,
    MessageGetOptions,
    MessageIn,
    MessageListOptions,
    RecoverIn,
    ReplayIn,
    Svix,
    SvixOptions,
)
from svix.exceptions import HttpError, HTTPValidationError
from svix import models

URL, TOKEN, RECEIVER = (os.environ[name] for name in ("SVIX_SERVER_URL", "SVIX_TOKEN", "RECEIVER_URL"))
svix = Svix(TOKEN, SvixOptions(server_url=URL))
# Whether the client is of before 2.9.
OLDER = not hasattr(svix.endpoint, "get_attempt_stats")


def refused(status, call, code=None):
    try:
        call()
    except HttpError as error:
        assert error.status_code == status, (error.status_code, error)
        assert code is None or error.code == code, error.code
        return error
    except HTTPValidationError as error:
        assert status == 422, error
        assert error.detail[0].loc and error.detail[0].msg and error.detail[0].type, error
        return error
    raise AssertionError(f"not refused with {status}")


def until(look):
    # The gateway delivers beside us; each look is a request of its own.
    deadline = datetime.now() + timedelta(seconds=60)
    while datetime.now() < deadline:
        if found := look():
            return found
    raise AssertionError("it did not come about within a minute")


def applications():
    made = svix.application.create(ApplicationIn(name="One", uid="py-1", metadata={"k": "v"}))
    assert made.id.startswith("app_") and made.uid == "py-1" and made.metadata == {"k": "v"}
    again = svix.application.get_or_create(ApplicationIn(name="Other", uid="py-1"))
    assert (again.id, again.name) == (made.id, "One")
    refused(409, lambda: svix.application.create(ApplicationIn(name="Two", uid="py-1")), "conflict")
    assert svix.application.get("py-1") == svix.application.get(made.id)
    assert svix.application.patch("py-1", ApplicationPatch(name="Renamed")).name == "Renamed"
    put = svix.application.upsert("py-1", ApplicationIn(name="Put", uid="py-1", throttle_rate=7))
    assert (put.id, put.name, put.throttle_rate) == (made.id, "Put", 7)
    svix.application.upsert("py-2", ApplicationIn(name="By put"))
    first = svix.application.list(ApplicationListOptions(limit=1, order=models.Ordering.ASCENDING))
    second = svix.application.list(ApplicationListOptions(limit=1, iterator=first.iterator))
    assert len(first.data) == len(second.data) == 1 and first.data[0].id != second.data[0].id and not first.done
    refused(422, lambda: svix.application.create(ApplicationIn(name="")))
    refused(404, lambda: svix.application.get("nobody"), "not_found")
    svix.application.delete("py-2")
    refused(404, lambda: svix.application.get("py-2"), "not_found")
    return made.id


def event_types():
    schema = {"1": {"type": "object", "examples": [{"n": 1}]}}
    made = svix.event_type.create(EventTypeIn(name="py.made", description="Made", schemas=schema))
    assert made.schemas == schema and made.archived is False
    refused(409, lambda: svix.event_type.create(EventTypeIn(name="py.made", description="x")))
    assert svix.event_type.patch("py.made", EventTypePatch(description="Patched")).description == "Patched"
    svix.event_type.upsert("py.other", models.EventTypeUpsertIn(description="By put"))
    names = [row.name for row in svix.event_type.list(EventTypeListOptions(with_content=True)).data]
    assert {"py.made", "py.other"} <= set(names)
    svix.event_type.delete("py.other")
    assert svix.event_type.get("py.other").archived is True
    assert "py.other" not in [row.name for row in svix.event_type.list().data]


def endpoints(app):
    body = EndpointIn(
        url=f"{RECEIVER}/ok", uid="ep-1", event_types=["py.made"], channels=["c1", "c2"], description="d",
        metadata={"a": "b"}, headers={"X-Env": "test"}, throttle_rate=100,
    )
    made = svix.endpoint.create(app, body, EndpointCreateOptions(idempotency_key="py-endpoint"))
    repeated = svix.endpoint.create(app, body, EndpointCreateOptions(idempotency_key="py-endpoint"))
    assert made == repeated and made.event_types == ["py.made"] and made.channels == ["c1", "c2"]
    other = EndpointIn(url=f"{RECEIVER}/other")
    refused(409, lambda: svix.endpoint.create(app, other, EndpointCreateOptions(idempotency_key="py-endpoint")))
    assert svix.endpoint.get(app, "ep-1").id == made.id
    assert [row.id for row in svix.endpoint.list(app, EndpointListOptions(limit=5)).data] == [made.id]
    patched = svix.endpoint.patch(app, "ep-1", EndpointPatch(description="e", channels=None))
    assert patched.description == "e" and patched.channels is None
    put = svix.endpoint.upsert(app, "ep-1", models.EndpointUpsertIn(url=f"{RECEIVER}/ok", uid="ep-1", event_types=["py.made"]))
    assert put.id == made.id and put.description == ""
    assert svix.endpoint.get_headers(app, "ep-1").headers == {"X-Env": "test"}
    svix.endpoint.set_headers(app, "ep-1", EndpointHeadersIn(headers={"X-A": "1", "Authorization": "secret"}))
    headers = svix.endpoint.get_headers(app, "ep-1")
    assert headers.headers == {"X-A": "1"} and headers.sensitive == ["Authorization"]
    svix.endpoint.patch_headers(app, "ep-1", EndpointHeadersPatchIn(headers={"X-B": "2"}))
    assert svix.endpoint.get_headers(app, "ep-1").headers == {"X-A": "1", "X-B": "2"}
    secret = svix.endpoint.get_secret(app, "ep-1").key
    rotated = svix.endpoint.rotate_secret(app, "ep-1", EndpointSecretRotateIn(key="whsec_" + "A" * 32))
    # Clients before 2.9 don't read it.
    assert rotated is None if OLDER else rotated.key == "whsec_" + "A" * 32
    assert secret.startswith("whsec_") and svix.endpoint.get_secret(app, "ep-1").key == "whsec_" + "A" * 32
    refused(422, lambda: svix.endpoint.create(app, EndpointIn(url="nonsense")))
    refused(404, lambda: svix.endpoint.get(app, "nobody"), "not_found")
    return made.id


def messages(app, endpoint):
    body = MessageIn(event_type="py.made", payload={"n": 1}, event_id="order-1", channels=["c1"])
    made = svix.message.create(app, body, MessageCreateOptions(idempotency_key="py-message", with_content=True))
    repeated = svix.message.create(app, body, MessageCreateOptions(idempotency_key="py-message", with_content=True))
    assert made == repeated and made.event_id == "order-1" and made.payload == {"n": 1}
    refused(409, lambda: svix.message.create(app, body), "event_exists")
    assert svix.message.get(app, "order-1").id == made.id
    listed = svix.message.list(app, MessageListOptions(channel="c1", event_types=["py.made"], with_content=False))
    assert [row.id for row in listed.data] == [made.id] and listed.data[0].payload == {}
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    assert svix.message.list(app, MessageListOptions(after=later)).data == []
    assert len(svix.message.list(app, MessageListOptions(before=later)).data) == 1
    kept = MessageIn(event_type="py.made", payload={}, payload_retention_period=30)
    svix.message.create(app, kept)
    refused(422, lambda: svix.message.create(app, MessageIn(event_type="a b", payload={})))
    refused(404, lambda: svix.message.create("nobody", MessageIn(event_type="a", payload={})))

    attempts = until(lambda: svix.message_attempt.list_by_msg(app, made.id).data)
    attempt = attempts[0]
    assert attempt.status == models.MessageStatus.SUCCESS and attempt.response_status_code == 200, attempt
    assert attempt.endpoint_id == endpoint and attempt.trigger_type == models.MessageAttemptTriggerType.SCHEDULED
    of = MessageAttemptListByEndpointOptions(status=models.MessageStatus.SUCCESS, status_code_class=models.StatusCodeClass.CODE2XX)
    assert attempt.id in [row.id for row in svix.message_attempt.list_by_endpoint(app, endpoint, of).data]
    failed = MessageAttemptListByMsgOptions(status=models.MessageStatus.FAIL)
    assert svix.message_attempt.list_by_msg(app, made.id, failed).data == []
    assert svix.message_attempt.get(app, made.id, attempt.id).id == attempt.id
    to = svix.message_attempt.list_attempted_destinations(app, made.id).data
    assert [row.id for row in to] == [endpoint] and to[0].status == models.MessageStatus.SUCCESS
    assert made.id in [row.id for row in svix.message_attempt.list_attempted_messages(app, endpoint).data]
    svix.message_attempt.resend(app, made.id, endpoint)
    until(lambda: len(svix.message_attempt.list_by_msg(app, made.id).data) == 2)
    svix.message_attempt.expunge_content(app, made.id, attempt.id)
    assert svix.message_attempt.get(app, made.id, attempt.id).response == "EXPUNGED"
    stats = svix.endpoint.get_stats(app, endpoint, EndpointGetStatsOptions(until=later))
    assert stats.success >= 1 and stats.fail == stats.pending == stats.sending == 0 or stats.pending <= 1, stats
    svix.message.expunge_content(app, made.id)
    assert svix.message.get(app, made.id, MessageGetOptions(with_content=True)).payload == {"expired": True}
    refused(409, lambda: svix.message_attempt.resend(app, made.id, endpoint))


def recoveries(app, endpoint):
    since = datetime.now(timezone.utc) - timedelta(hours=1)
    recovery = svix.endpoint.recover(app, endpoint, RecoverIn(since=since))
    assert recovery.task == models.BackgroundTaskType.ENDPOINT_RECOVER and recovery.id
    # One of a tenant at a time: the next one waits until the first has ended.
    replay = until(lambda: try_replay(app, endpoint, since))
    assert replay.task == models.BackgroundTaskType.ENDPOINT_REPLAY
    example = svix.endpoint.send_example(app, endpoint, EventExampleIn(event_type="py.made"))
    assert example.payload == {"n": 1}
    attempt = until(lambda: svix.message_attempt.list_by_msg(app, example.id).data)[0]
    assert attempt.endpoint_id == endpoint
    refused(404, lambda: svix.endpoint.send_example(app, endpoint, EventExampleIn(event_type="py.unknown")))


def try_replay(app, endpoint, since):
    try:
        return svix.endpoint.replay_missing(app, endpoint, ReplayIn(since=since))
    except HttpError as error:
        assert (error.status_code, error.code) == (409, "replay_running"), error
        return None


def access(app):
    link = svix.authentication.app_portal_access(app, AppPortalAccessIn())
    assert link.token in link.url
    portal = Svix(link.token, SvixOptions(server_url=URL))
    assert portal.application.get(app).id == app
    refused(403, lambda: portal.application.delete(app), "permission_denied")
    refused(404, lambda: portal.application.get("nobody"), "not_found")
    portal.authentication.logout()
    refused(401, lambda: portal.application.get(app), "authentication_failed")
    refused(403, lambda: svix.authentication.logout())
    refused(401, lambda: Svix("hl_nonsense", SvixOptions(server_url=URL)).application.list(), "authentication_failed")


def newer(app, endpoint):
    """What this client has and the document lacks: README lists it."""
    missing = [
        lambda: svix.endpoint.bulk_replay(app, endpoint, models.BulkReplayIn(since=datetime.now(timezone.utc))),
        lambda: svix.endpoint.transformation.get(app, endpoint),
        lambda: svix.message.expunge_all_contents(app),
        lambda: svix.message.precheck(app, models.MessagePrecheckIn(event_type="py.made")),
        lambda: svix.event_type.import_openapi(models.EventTypeImportOpenApiIn(spec={})),
        lambda: svix.authentication.expire_all(app, models.ApplicationTokenExpireIn()),
        lambda: svix.statistics.aggregate_event_types(),
        lambda: svix.background_task.list(),
        lambda: svix.environment.export(),
        lambda: svix.integration.list(app),
        lambda: svix.connector.list(),
        lambda: svix.operational_webhook.endpoint.list(),
        lambda: svix.ingest.source.list(),
        lambda: svix.streaming.stream.list(),
    ]
    if not OLDER:
        missing.append(lambda: svix.endpoint.get_attempt_stats(app, endpoint))
    for call in missing:
        refused(404, call, "not_found")


svix.health.get()
app = applications()
event_types()
endpoint = endpoints(app)
messages(app, endpoint)
recoveries(app, endpoint)
access(app)
newer(app, endpoint)
svix.endpoint.delete(app, endpoint)
refused(404, lambda: svix.endpoint.get(app, endpoint), "not_found")
svix.application.delete(app)
print("all of it held")
