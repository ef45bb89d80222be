-- Times are milliseconds since 1970. Ids of what is configured are texts with a prefix; of what flows, the 16 bytes of
-- their ULID, which sort by time. States and kinds are numbers that are never given to another one (`store/flow.rs`).
--
-- What is long (events, messages, bodies, calls) stands in the order of its coming, beside an index of its key: within the
-- tree of its key, whose inner pages hold whole rows, a few of them would fill a page, and each new one move others.

-- What is configured: applications, endpoints, sources, rules, plugins, versions, event types, keys.
CREATE TABLE resource (
    id       TEXT PRIMARY KEY,
    kind     TEXT NOT NULL,
    app_id   TEXT NOT NULL,              -- '' for what belongs to the instance
    uid      TEXT,
    data     TEXT NOT NULL,              -- JSON
    revision INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX resource_uid ON resource (kind, app_id, uid) WHERE uid IS NOT NULL;
CREATE INDEX resource_list ON resource (kind, app_id, id);
-- The versions that have a component.
CREATE INDEX resource_component ON resource (json_extract(data, '$.component')) WHERE kind = 'version';

-- Finds a resource by the SHA-256 of a secret.
CREATE TABLE handle (
    digest     BLOB PRIMARY KEY,
    kind       TEXT NOT NULL,
    id         TEXT NOT NULL,
    expires_ms INTEGER
) WITHOUT ROWID;
CREATE INDEX handle_id ON handle (id);

-- Uploaded components by the digest of their bytes. They are kept in pieces, so that a large one is removed bit by bit.
CREATE TABLE component (
    id         INTEGER PRIMARY KEY,
    digest     TEXT,                     -- NULL: no version has it any more, and its pieces are being removed
    created_ms INTEGER NOT NULL
);
CREATE UNIQUE INDEX component_digest ON component (digest) WHERE digest IS NOT NULL;

CREATE TABLE component_piece (
    component_id INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    bytes        BLOB NOT NULL
);
CREATE UNIQUE INDEX component_piece_place ON component_piece (component_id, position);

-- What the gateway keeps about itself.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- Whose configuration changed when, by a number that grows with every change.
CREATE TABLE config_epoch (
    app_id TEXT PRIMARY KEY,             -- '' for the instance
    epoch  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX config_epoch_age ON config_epoch (epoch);

-- Processes that worked on the store. Numbers are never used again: they stand in the ids of work.
CREATE TABLE node (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL,
    started_ms INTEGER NOT NULL
);

CREATE TABLE event (
    app_id      BLOB NOT NULL,
    id          BLOB NOT NULL,
    source_id   BLOB NOT NULL,
    received_ms INTEGER NOT NULL,
    headers     TEXT NOT NULL,           -- JSON array of {name, value}
    dedupe_key  TEXT,
    state       INTEGER NOT NULL,
    reason      TEXT,
    version_id  BLOB,
    body        BLOB NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE UNIQUE INDEX event_dedupe ON event (source_id, dedupe_key) WHERE dedupe_key IS NOT NULL;

CREATE TABLE match (
    event_id    BLOB NOT NULL,
    position    INTEGER NOT NULL,
    rule_key    TEXT NOT NULL,
    contact     TEXT NOT NULL,           -- JSON
    variables   TEXT NOT NULL,           -- JSON object
    state       INTEGER NOT NULL,
    reason_code TEXT,
    reason      TEXT,
    message_id  BLOB,
    version_id  BLOB,
    PRIMARY KEY (event_id, position)
) WITHOUT ROWID;

CREATE TABLE message (
    app_id        BLOB NOT NULL,
    id            BLOB NOT NULL,
    uid           TEXT,
    event_type    TEXT NOT NULL,
    channels      TEXT NOT NULL,         -- JSON array of texts
    origin        TEXT NOT NULL,
    medium        TEXT,
    created_ms    INTEGER NOT NULL,
    deliver_at_ms INTEGER,
    event_id      BLOB,
    operational   INTEGER NOT NULL,      -- 1: of the gateway itself
    ordering_key  TEXT,
    content_until_ms INTEGER,            -- until when the payload is kept; an empty one was removed
    cancelled     INTEGER NOT NULL,      -- 1: nothing of it is sent
    payload       BLOB NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE UNIQUE INDEX message_uid ON message (app_id, uid) WHERE uid IS NOT NULL;
CREATE INDEX message_content ON message (app_id, content_until_ms) WHERE content_until_ms IS NOT NULL;

-- What reshapers wrote, once a message and version; a payload stands with its message.
CREATE TABLE body (
    id         INTEGER PRIMARY KEY,
    message_id BLOB NOT NULL,
    bytes      BLOB NOT NULL
);
CREATE INDEX body_message ON body (message_id);

CREATE TABLE delivery (
    message_id      BLOB NOT NULL,
    endpoint_id     BLOB NOT NULL,
    app_id          BLOB NOT NULL,
    state           INTEGER NOT NULL,
    reason          TEXT,
    attempts        INTEGER NOT NULL,
    next_attempt_ms INTEGER,
    body_id         INTEGER,             -- NULL: the message's payload
    version_id      BLOB,
    note            TEXT,                -- what its reader should know of the bytes
    manual          INTEGER NOT NULL,    -- 1: the next attempt was asked for by hand
    updated_ms      INTEGER NOT NULL,
    PRIMARY KEY (message_id, endpoint_id)
) WITHOUT ROWID;
CREATE INDEX delivery_endpoint ON delivery (endpoint_id, message_id);
CREATE INDEX delivery_dead ON delivery (endpoint_id, message_id) WHERE state = 4;

CREATE TABLE attempt (
    message_id  BLOB NOT NULL,
    id          BLOB NOT NULL,
    endpoint_id BLOB NOT NULL,
    app_id      BLOB NOT NULL,
    url         TEXT NOT NULL,
    succeeded   INTEGER NOT NULL,
    status_code INTEGER,
    response    TEXT NOT NULL,
    duration_ms INTEGER NOT NULL,
    trigger     INTEGER NOT NULL,
    created_ms  INTEGER NOT NULL,
    PRIMARY KEY (message_id, id)
) WITHOUT ROWID;
CREATE INDEX attempt_endpoint ON attempt (endpoint_id, id);

CREATE TABLE call (
    app_id     BLOB NOT NULL,
    id         BLOB NOT NULL,
    plugin_id  BLOB NOT NULL,
    version_id BLOB NOT NULL,
    subject    BLOB NOT NULL,            -- id of the event or message
    is_event   INTEGER NOT NULL,         -- 1: the subject is an event
    failed     INTEGER NOT NULL,
    record     TEXT NOT NULL,            -- JSON
    context    BLOB,                     -- digest of a call_part: component, settings, limits, engine, source
    rules      BLOB,                     -- digest of a call_part: the rules that a mapper was handed
    exact      TEXT,                     -- JSON: digests of input and output, matches without their variables
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE INDEX call_plugin ON call (plugin_id, id);
CREATE INDEX call_subject ON call (subject);

-- What calls share, once a tenant and content, by its SHA-256. Bounded for each tenant, the oldest leave first.
CREATE TABLE call_part (
    number INTEGER PRIMARY KEY,
    app_id BLOB NOT NULL,
    digest BLOB NOT NULL,
    bytes  INTEGER NOT NULL,
    data   TEXT NOT NULL                 -- JSON
);
CREATE UNIQUE INDEX call_part_digest ON call_part (app_id, digest);
CREATE INDEX call_part_age ON call_part (app_id, number, bytes);

-- The whole inputs of each tenant's last failed calls.
CREATE TABLE call_input (
    call_id BLOB NOT NULL,
    app_id  BLOB NOT NULL,
    bytes   INTEGER NOT NULL,
    input   BLOB NOT NULL                -- JSON
);
CREATE UNIQUE INDEX call_input_call ON call_input (call_id);
CREATE INDEX call_input_age ON call_input (app_id, call_id, bytes);

-- One row a held subject and plugin; gone when settled.
CREATE TABLE dead_letter (
    app_id     BLOB NOT NULL,
    id         BLOB NOT NULL,
    subject    BLOB NOT NULL,            -- id of the event or message
    is_event   INTEGER NOT NULL,         -- 1: the subject is an event
    plugin_id  BLOB NOT NULL,
    version_id BLOB,
    call_id    BLOB,
    code       TEXT NOT NULL,
    detail     TEXT NOT NULL,
    failures   INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (app_id, id)
) WITHOUT ROWID;
CREATE UNIQUE INDEX dead_letter_subject ON dead_letter (subject, plugin_id);
CREATE INDEX dead_letter_plugin ON dead_letter (plugin_id, id);

CREATE TABLE idempotency (
    app_id     BLOB NOT NULL,
    key        TEXT NOT NULL,
    request    BLOB NOT NULL,            -- SHA-256 of the request
    message_id BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (app_id, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (created_ms);

-- What repeated requests are answered. The owner is the nil id where it is the instance.
CREATE TABLE answer (
    app_id     BLOB NOT NULL,
    key        TEXT NOT NULL,
    request    BLOB NOT NULL,            -- SHA-256 of the request
    status     INTEGER,                 -- NULL: it is being carried out
    body       BLOB,                    -- sealed
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (app_id, key)
) WITHOUT ROWID;
CREATE INDEX answer_age ON answer (created_ms);

-- Who changed what. The owner is the nil id where it is the instance.
CREATE TABLE audit (
    app_id BLOB NOT NULL,
    id     BLOB NOT NULL,
    entry  TEXT NOT NULL,                -- JSON
    PRIMARY KEY (app_id, id)
) WITHOUT ROWID;

-- What is still to be done. `id` holds the number of the node that added the row above a count of its own, so that none is
-- ever used twice: a claim of a row that is gone must not fit a new one. `node` is 0 or who has claimed it.
CREATE TABLE work (
    id      INTEGER PRIMARY KEY,
    kind    INTEGER NOT NULL,
    lane    BLOB NOT NULL,               -- an id and a class: 0 live, 1 replay
    app_id  BLOB NOT NULL,
    subject BLOB NOT NULL,
    due_ms  INTEGER NOT NULL,
    token   INTEGER NOT NULL,
    tries   INTEGER NOT NULL,
    node    INTEGER NOT NULL
);
CREATE UNIQUE INDEX work_subject ON work (kind, subject);
CREATE INDEX work_due ON work (kind, lane, due_ms, id) WHERE node = 0;
CREATE INDEX work_node ON work (node) WHERE node <> 0;

-- Who stands in line: only the first of a scope (a tenant, for fan-out; an endpoint, for attempts) and key has work.
CREATE TABLE queue_order (
    scope   BLOB NOT NULL,
    key     TEXT NOT NULL,
    seq     INTEGER NOT NULL,
    subject BLOB NOT NULL,
    PRIMARY KEY (scope, key, seq)
) WITHOUT ROWID;
CREATE UNIQUE INDEX queue_order_subject ON queue_order (scope, subject);

-- An endpoint's failures since its last success. No row: none.
CREATE TABLE endpoint_health (
    endpoint_id      BLOB PRIMARY KEY,
    app_id           BLOB NOT NULL,
    failures         INTEGER NOT NULL,
    failing_since_ms INTEGER NOT NULL,
    updated_ms       INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX endpoint_health_app ON endpoint_health (app_id);

-- What a tenant has here, and what it used.
CREATE TABLE usage (
    app_id        BLOB PRIMARY KEY,
    events        INTEGER NOT NULL,
    event_bytes   INTEGER NOT NULL,
    messages      INTEGER NOT NULL,
    message_bytes INTEGER NOT NULL,
    fuel          INTEGER NOT NULL,         -- of the calls of this day:
    fuel_day      INTEGER NOT NULL
) WITHOUT ROWID;

-- A version's failures since its last call that was none. No row: none.
CREATE TABLE version_health (
    version_id TEXT PRIMARY KEY,
    app_id     TEXT NOT NULL,
    plugin_id  TEXT NOT NULL,
    in_row     INTEGER NOT NULL,
    last       TEXT NOT NULL             -- JSON
) WITHOUT ROWID;
CREATE INDEX version_health_plugin ON version_health (plugin_id);

-- Counts of watches, canaries and shadows.
CREATE TABLE rollout_count (
    id        TEXT PRIMARY KEY,
    app_id    TEXT NOT NULL,
    plugin_id TEXT NOT NULL,
    counts    TEXT NOT NULL              -- JSON
) WITHOUT ROWID;
CREATE INDEX rollout_count_plugin ON rollout_count (plugin_id);

-- How far the release of a plugin's dead letters has come.
CREATE TABLE release (
    plugin_id TEXT PRIMARY KEY,
    app_id    TEXT NOT NULL,
    after     BLOB NOT NULL,             -- id of the last dead letter that was set in motion
    until     BLOB NOT NULL              -- id of the last one that is meant
) WITHOUT ROWID;

-- What every version was, also after it was removed: rows name it by its id.
CREATE TABLE version_digest (
    version_id TEXT PRIMARY KEY,
    app_id     TEXT NOT NULL,
    digest     TEXT NOT NULL,
    component  TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX version_digest_app ON version_digest (app_id);
