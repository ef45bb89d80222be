-- Times are milliseconds since 1970. Ids are texts with a prefix. Bodies stand once, in `body`.

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

CREATE TABLE body (
    id    INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
);

CREATE TABLE event (
    id          TEXT PRIMARY KEY,
    app_id      TEXT NOT NULL,
    source_id   TEXT NOT NULL,
    received_ms INTEGER NOT NULL,
    headers     TEXT NOT NULL,           -- JSON array of {name, value}
    body_id     INTEGER NOT NULL,
    dedupe_key  TEXT,
    state       TEXT NOT NULL,
    reason      TEXT,
    version_id  TEXT
) WITHOUT ROWID;
CREATE INDEX event_list ON event (app_id, id);
CREATE UNIQUE INDEX event_dedupe ON event (source_id, dedupe_key) WHERE dedupe_key IS NOT NULL;

CREATE TABLE match (
    event_id    TEXT NOT NULL,
    position    INTEGER NOT NULL,
    rule_key    TEXT NOT NULL,
    contact     TEXT NOT NULL,           -- JSON
    variables   TEXT NOT NULL,           -- JSON object
    state       TEXT NOT NULL,
    reason_code TEXT,
    reason      TEXT,
    message_id  TEXT,
    version_id  TEXT,
    PRIMARY KEY (event_id, position)
) WITHOUT ROWID;

CREATE TABLE message (
    id            TEXT PRIMARY KEY,
    app_id        TEXT NOT NULL,
    uid           TEXT,
    event_type    TEXT NOT NULL,
    channels      TEXT NOT NULL,         -- JSON array of texts
    origin        TEXT NOT NULL,
    medium        TEXT,
    created_ms    INTEGER NOT NULL,
    deliver_at_ms INTEGER,
    event_id      TEXT,
    operational   INTEGER NOT NULL,      -- 1: of the gateway itself
    body_id       INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX message_list ON message (app_id, id);
CREATE UNIQUE INDEX message_uid ON message (app_id, uid) WHERE uid IS NOT NULL;

CREATE TABLE delivery (
    number          INTEGER PRIMARY KEY,
    app_id          TEXT NOT NULL,
    message_id      TEXT NOT NULL,
    endpoint_id     TEXT NOT NULL,
    state           TEXT NOT NULL,
    reason          TEXT,
    attempts        INTEGER NOT NULL,
    next_attempt_ms INTEGER,
    body_id         INTEGER NOT NULL,
    version_id      TEXT,
    manual          INTEGER NOT NULL,    -- 1: the next attempt was asked for by hand
    updated_ms      INTEGER NOT NULL
);
CREATE UNIQUE INDEX delivery_pair ON delivery (message_id, endpoint_id);
CREATE INDEX delivery_endpoint ON delivery (endpoint_id, message_id);

CREATE TABLE attempt (
    id          TEXT PRIMARY KEY,
    app_id      TEXT NOT NULL,
    message_id  TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    url         TEXT NOT NULL,
    succeeded   INTEGER NOT NULL,
    status_code INTEGER,
    response    TEXT NOT NULL,
    duration_ms INTEGER NOT NULL,
    trigger     TEXT NOT NULL,
    created_ms  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX attempt_message ON attempt (message_id, id);
CREATE INDEX attempt_endpoint ON attempt (endpoint_id, id);

CREATE TABLE call (
    id         TEXT PRIMARY KEY,
    app_id     TEXT NOT NULL,
    plugin_id  TEXT NOT NULL,
    version_id TEXT NOT NULL,
    event_id   TEXT,
    message_id TEXT,
    failed     INTEGER NOT NULL,
    record     TEXT NOT NULL,            -- JSON
    context    BLOB,                     -- digest of a call_part: component, settings, limits, engine, source
    rules      BLOB,                     -- digest of a call_part: the rules that a mapper was handed
    exact      TEXT,                     -- JSON: digests of input and output, matches without their variables
    created_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX call_list ON call (app_id, id);
CREATE INDEX call_plugin ON call (app_id, plugin_id, id);
CREATE INDEX call_event ON call (event_id) WHERE event_id IS NOT NULL;
CREATE INDEX call_message ON call (message_id) WHERE message_id IS NOT NULL;

-- What calls share, once a tenant and content, by its SHA-256. Bounded for each tenant, the oldest leave first.
CREATE TABLE call_part (
    number INTEGER PRIMARY KEY,
    app_id TEXT NOT NULL,
    digest BLOB NOT NULL,
    bytes  INTEGER NOT NULL,
    data   TEXT NOT NULL                 -- JSON
);
CREATE UNIQUE INDEX call_part_digest ON call_part (app_id, digest);
CREATE INDEX call_part_age ON call_part (app_id, number, bytes);

-- The whole inputs of each tenant's last failed calls.
CREATE TABLE call_input (
    call_id TEXT NOT NULL,
    app_id  TEXT NOT NULL,
    bytes   INTEGER NOT NULL,
    input   BLOB NOT NULL                -- JSON
);
CREATE UNIQUE INDEX call_input_call ON call_input (call_id);
CREATE INDEX call_input_age ON call_input (app_id, call_id, bytes);

-- One row a held subject and plugin; gone when settled.
CREATE TABLE dead_letter (
    id         TEXT PRIMARY KEY,
    app_id     TEXT NOT NULL,
    subject    TEXT NOT NULL,            -- event or message id
    plugin_id  TEXT NOT NULL,
    version_id TEXT,
    call_id    TEXT,
    code       TEXT NOT NULL,
    detail     TEXT NOT NULL,
    failures   INTEGER NOT NULL,
    created_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX dead_letter_subject ON dead_letter (subject, plugin_id);
CREATE INDEX dead_letter_list ON dead_letter (app_id, id);
CREATE INDEX dead_letter_plugin ON dead_letter (app_id, plugin_id, id);

CREATE TABLE idempotency (
    app_id     TEXT NOT NULL,
    key        TEXT NOT NULL,
    request    BLOB NOT NULL,            -- SHA-256 of the request
    message_id TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (app_id, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (created_ms);

-- What is still to be done. A claim moves `due_ms` to the end of its lease, so that claimed work leaves the range that
-- is due and comes back by itself if it is never finished.
CREATE TABLE work (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    kind    TEXT NOT NULL,
    app_id  TEXT NOT NULL,
    subject TEXT NOT NULL,
    due_ms  INTEGER NOT NULL,
    token   INTEGER NOT NULL,
    tries   INTEGER NOT NULL,
    claimed INTEGER NOT NULL
);
CREATE INDEX work_due ON work (kind, due_ms);
CREATE UNIQUE INDEX work_subject ON work (kind, subject);
CREATE INDEX work_claimed ON work (claimed) WHERE claimed = 1;

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
    after     TEXT NOT NULL,             -- id of the last dead letter that was set in motion
    until     TEXT NOT NULL              -- id of the last one that is meant
) WITHOUT ROWID;

-- What every version was, also after it was removed: rows name it by its id.
CREATE TABLE version_digest (
    version_id TEXT PRIMARY KEY,
    app_id     TEXT NOT NULL,
    digest     TEXT NOT NULL,
    component  TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX version_digest_app ON version_digest (app_id);
