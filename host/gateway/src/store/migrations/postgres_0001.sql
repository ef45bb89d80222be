-- Times are milliseconds since 1970. Ids of what is configured are texts with a prefix; of what flows, the 16 bytes of
-- their ULID, which sort by time. States and kinds are numbers that are never given to another one (`store/flow.rs`).

-- What is configured: applications, endpoints, sources, rules, plugins, versions, event types, keys.
CREATE TABLE resource (
    id       text COLLATE "C" PRIMARY KEY,
    kind     text NOT NULL,
    app_id   text NOT NULL,              -- '' for what belongs to the instance
    uid      text,
    data     text NOT NULL,              -- JSON
    revision bigint NOT NULL
);
CREATE UNIQUE INDEX resource_uid ON resource (kind, app_id, uid) WHERE uid IS NOT NULL;
CREATE INDEX resource_list ON resource (kind, app_id, id);
-- The versions that have a component.
CREATE INDEX resource_component ON resource ((data::json ->> 'component')) WHERE kind = 'version';

-- Finds a resource by the SHA-256 of a secret.
CREATE TABLE handle (
    digest     bytea PRIMARY KEY,
    kind       text NOT NULL,
    id         text NOT NULL,
    expires_ms bigint
);
CREATE INDEX handle_id ON handle (id);

-- Uploaded components by the digest of their bytes. They are kept in pieces, so that a large one is removed bit by bit.
CREATE TABLE component (
    id         bigserial PRIMARY KEY,
    digest     text,                     -- NULL: no version has it any more, and its pieces are being removed
    created_ms bigint NOT NULL
);
CREATE UNIQUE INDEX component_digest ON component (digest) WHERE digest IS NOT NULL;

CREATE TABLE component_piece (
    component_id bigint NOT NULL,
    position     bigint NOT NULL,
    bytes        bytea NOT NULL
);
CREATE UNIQUE INDEX component_piece_place ON component_piece (component_id, position);

-- What the gateway keeps about itself.
CREATE TABLE meta (
    key   text PRIMARY KEY,
    value bytea NOT NULL
);

-- Whose configuration changed when, by a number that grows with every change.
CREATE TABLE config_epoch (
    app_id text PRIMARY KEY,             -- '' for the instance
    epoch  bigint NOT NULL
);
CREATE INDEX config_epoch_age ON config_epoch (epoch);

-- Processes that work on the store, or did until lately. All times here are the database's.
CREATE TABLE node (
    id         bigserial PRIMARY KEY,
    name       text NOT NULL,
    started_ms bigint NOT NULL,
    beats      bigint NOT NULL,          -- signs of life
    gone_ms    bigint                    -- when it was given up for dead
);

CREATE TABLE event (
    app_id      bytea NOT NULL,
    id          bytea NOT NULL,
    source_id   bytea NOT NULL,
    received_ms bigint NOT NULL,
    headers     text NOT NULL,           -- JSON array of {name, value}
    dedupe_key  text,
    state       bigint NOT NULL,
    reason      text,
    version_id  bytea,
    body        bytea NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE UNIQUE INDEX event_dedupe ON event (source_id, dedupe_key) WHERE dedupe_key IS NOT NULL;

CREATE TABLE match (
    event_id    bytea NOT NULL,
    position    bigint NOT NULL,
    rule_key    text NOT NULL,
    contact     text NOT NULL,           -- JSON
    variables   text NOT NULL,           -- JSON object
    state       bigint NOT NULL,
    reason_code text,
    reason      text,
    message_id  bytea,
    version_id  bytea,
    PRIMARY KEY (event_id, position)
);

CREATE TABLE message (
    app_id        bytea NOT NULL,
    id            bytea NOT NULL,
    uid           text,
    event_type    text NOT NULL,
    channels      text NOT NULL,         -- JSON array of texts
    origin        text NOT NULL,
    medium        text,
    created_ms    bigint NOT NULL,
    deliver_at_ms bigint,
    event_id      bytea,
    operational   boolean NOT NULL,      -- of the gateway itself
    ordering_key  text,
    content_until_ms bigint,            -- until when the payload is kept; an empty one was removed
    cancelled     boolean NOT NULL,      -- nothing of it is sent
    payload       bytea NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE UNIQUE INDEX message_uid ON message (app_id, uid) WHERE uid IS NOT NULL;
CREATE INDEX message_content ON message (app_id, content_until_ms) WHERE content_until_ms IS NOT NULL;

-- What reshapers wrote, once a message and version; a payload stands with its message.
CREATE TABLE body (
    id         bigserial PRIMARY KEY,
    message_id bytea NOT NULL,
    bytes      bytea NOT NULL
);
CREATE INDEX body_message ON body (message_id);

CREATE TABLE delivery (
    message_id      bytea NOT NULL,
    endpoint_id     bytea NOT NULL,
    app_id          bytea NOT NULL,
    state           bigint NOT NULL,
    reason          text,
    attempts        bigint NOT NULL,
    next_attempt_ms bigint,
    body_id         bigint,              -- NULL: the message's payload
    version_id      bytea,
    note            text,                -- what its reader should know of the bytes
    manual          boolean NOT NULL,    -- the next attempt was asked for by hand
    updated_ms      bigint NOT NULL,
    PRIMARY KEY (message_id, endpoint_id)
) WITH (fillfactor = 80);
CREATE INDEX delivery_endpoint ON delivery (endpoint_id, message_id);
CREATE INDEX delivery_dead ON delivery (endpoint_id, message_id) WHERE state = 4;

CREATE TABLE attempt (
    message_id  bytea NOT NULL,
    id          bytea NOT NULL,
    endpoint_id bytea NOT NULL,
    app_id      bytea NOT NULL,
    url         text NOT NULL,
    succeeded   boolean NOT NULL,
    status_code bigint,
    response    text NOT NULL,
    duration_ms bigint NOT NULL,
    trigger     bigint NOT NULL,
    created_ms  bigint NOT NULL,
    PRIMARY KEY (message_id, id)
);
CREATE INDEX attempt_endpoint ON attempt (endpoint_id, id);

CREATE TABLE call (
    app_id     bytea NOT NULL,
    id         bytea NOT NULL,
    plugin_id  bytea NOT NULL,
    version_id bytea NOT NULL,
    subject    bytea NOT NULL,           -- id of the event or message
    is_event   boolean NOT NULL,         -- the subject is an event
    failed     boolean NOT NULL,
    record     text NOT NULL,            -- JSON
    context    bytea,                    -- digest of a call_part: component, settings, limits, engine, source
    rules      bytea,                    -- digest of a call_part: the rules that a mapper was handed
    exact      text,                     -- JSON: digests of input and output, matches without their variables
    created_ms bigint NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE INDEX call_plugin ON call (plugin_id, id);
CREATE INDEX call_subject ON call (subject);

-- What calls share, once a tenant and content, by its SHA-256. Bounded for each tenant, the oldest leave first.
CREATE TABLE call_part (
    number bigserial PRIMARY KEY,
    app_id bytea NOT NULL,
    digest bytea NOT NULL,
    bytes  bigint NOT NULL,
    data   text NOT NULL                 -- JSON
);
CREATE UNIQUE INDEX call_part_digest ON call_part (app_id, digest);
CREATE INDEX call_part_age ON call_part (app_id, number, bytes);

-- The whole inputs of each tenant's last failed calls.
CREATE TABLE call_input (
    call_id bytea NOT NULL,
    app_id  bytea NOT NULL,
    bytes   bigint NOT NULL,
    input   bytea NOT NULL               -- JSON
);
CREATE UNIQUE INDEX call_input_call ON call_input (call_id);
CREATE INDEX call_input_age ON call_input (app_id, call_id, bytes);

-- One row a held subject and plugin; gone when settled.
CREATE TABLE dead_letter (
    app_id     bytea NOT NULL,
    id         bytea NOT NULL,
    subject    bytea NOT NULL,           -- id of the event or message
    is_event   boolean NOT NULL,         -- the subject is an event
    plugin_id  bytea NOT NULL,
    version_id bytea,
    call_id    bytea,
    code       text NOT NULL,
    detail     text NOT NULL,
    failures   bigint NOT NULL,
    created_ms bigint NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE UNIQUE INDEX dead_letter_subject ON dead_letter (subject, plugin_id);
CREATE INDEX dead_letter_plugin ON dead_letter (plugin_id, id);

CREATE TABLE idempotency (
    app_id     bytea NOT NULL,
    key        text NOT NULL,
    request    bytea NOT NULL,           -- SHA-256 of the request
    message_id bytea NOT NULL,
    created_ms bigint NOT NULL,
    PRIMARY KEY (app_id, key)
);
CREATE INDEX idempotency_age ON idempotency (created_ms);

-- What repeated requests are answered. The owner is the nil id where it is the instance.
CREATE TABLE answer (
    app_id     bytea NOT NULL,
    key        text NOT NULL,
    request    bytea NOT NULL,           -- SHA-256 of the request
    status     bigint,                  -- NULL: it is being carried out
    body       bytea,                   -- sealed
    created_ms bigint NOT NULL,
    PRIMARY KEY (app_id, key)
);
CREATE INDEX answer_age ON answer (created_ms);

-- Who changed what. The owner is the nil id where it is the instance.
CREATE TABLE audit (
    app_id bytea NOT NULL,
    id     bytea NOT NULL,
    entry  text NOT NULL,                -- JSON
    PRIMARY KEY (app_id, id)
);

-- What is still to be done. An `id` is never used twice: a claim of a row that is gone must not fit a new one. `node` is 0 or
-- who has claimed it. Rows come and go all the time: room for changes in place, and vacuum early and at once.
CREATE TABLE work (
    id      bigserial PRIMARY KEY,
    kind    bigint NOT NULL,
    lane    bytea NOT NULL,              -- an id and a class: 0 live, 1 replay
    app_id  bytea NOT NULL,
    subject bytea NOT NULL,
    due_ms  bigint NOT NULL,
    token   bigint NOT NULL,
    tries   bigint NOT NULL,
    node    bigint NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_cost_delay = 0);
CREATE UNIQUE INDEX work_subject ON work (kind, subject);
CREATE INDEX work_due ON work (kind, lane, due_ms, id) WHERE node = 0;
CREATE INDEX work_node ON work (node) WHERE node <> 0;

-- Who stands in line: only the first of a scope (a tenant, for fan-out; an endpoint, for attempts) and key has work.
CREATE TABLE queue_order (
    scope   bytea NOT NULL,
    key     text NOT NULL,
    seq     bigserial,
    subject bytea NOT NULL,
    PRIMARY KEY (scope, key, seq)
);
CREATE UNIQUE INDEX queue_order_subject ON queue_order (scope, subject);

-- An endpoint's failures since its last success. No row: none.
CREATE TABLE endpoint_health (
    endpoint_id      bytea PRIMARY KEY,
    app_id           bytea NOT NULL,
    failures         bigint NOT NULL,
    failing_since_ms bigint NOT NULL,
    updated_ms       bigint NOT NULL
);
CREATE INDEX endpoint_health_app ON endpoint_health (app_id);

-- What a tenant has here, in parts, so that not all writers wait for one row. The sum counts.
CREATE TABLE usage (
    app_id        bytea NOT NULL,
    part          bigint NOT NULL,
    events        bigint NOT NULL,
    event_bytes   bigint NOT NULL,
    messages      bigint NOT NULL,
    message_bytes bigint NOT NULL,
    fuel          bigint NOT NULL,          -- of the calls of this day:
    fuel_day      bigint NOT NULL,
    PRIMARY KEY (app_id, part)
);

-- A version's failures since its last call that was none. No row: none.
CREATE TABLE version_health (
    version_id text PRIMARY KEY,
    app_id     text NOT NULL,
    plugin_id  text NOT NULL,
    in_row     bigint NOT NULL,
    last       text NOT NULL             -- JSON
);
CREATE INDEX version_health_plugin ON version_health (plugin_id);

-- Counts of watches, canaries and shadows.
CREATE TABLE rollout_count (
    id        text PRIMARY KEY,
    app_id    text NOT NULL,
    plugin_id text NOT NULL,
    counts    text NOT NULL              -- JSON
);
CREATE INDEX rollout_count_plugin ON rollout_count (plugin_id);

-- How far the release of a plugin's dead letters has come.
CREATE TABLE release (
    plugin_id text PRIMARY KEY,
    app_id    text NOT NULL,
    after     bytea NOT NULL,            -- id of the last dead letter that was set in motion
    until     bytea NOT NULL             -- id of the last one that is meant
);

-- What every version was, also after it was removed: rows name it by its id.
CREATE TABLE version_digest (
    version_id text PRIMARY KEY,
    app_id     text NOT NULL,
    digest     text NOT NULL,
    component  text NOT NULL
);
CREATE INDEX version_digest_app ON version_digest (app_id);
