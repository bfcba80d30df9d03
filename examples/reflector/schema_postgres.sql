-- The tables of Reflector, as far as retention meets them, for PostgreSQL. Rebuilt in our own words; every
-- timestamp has a zone. Its main links (transcript.meeting_id, transcript.recording_id, recording.meeting_id) are not
-- foreign keys, so that the database guards none of them.

CREATE TYPE sourcekind AS ENUM ('room', 'live', 'file');
CREATE SEQUENCE transcript_change_seq;

CREATE TABLE "user" (
    id            varchar     PRIMARY KEY,
    email         varchar     NOT NULL,
    authentik_uid varchar     NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL
);
CREATE UNIQUE INDEX idx_user_authentik_uid ON "user" (authentik_uid);
CREATE INDEX idx_user_email ON "user" (email);

CREATE TABLE user_api_key (
    id         varchar     PRIMARY KEY,
    user_id    varchar     NOT NULL,            -- no FK
    key_hash   varchar     NOT NULL,
    name       varchar,
    created_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX idx_user_api_key_hash ON user_api_key (key_hash);
CREATE INDEX idx_user_api_key_user_id ON user_api_key (user_id);

CREATE TABLE room (
    id                  varchar     PRIMARY KEY,
    name                varchar     NOT NULL UNIQUE,
    user_id             varchar     NOT NULL,   -- no FK
    created_at          timestamptz NOT NULL,
    zulip_auto_post     boolean     NOT NULL DEFAULT false,
    zulip_stream        varchar,
    zulip_topic         varchar,
    is_locked           boolean     NOT NULL DEFAULT false,
    room_mode           varchar     NOT NULL DEFAULT 'normal',      -- normal | group
    recording_type      varchar     NOT NULL DEFAULT 'cloud',       -- none | local | cloud
    recording_trigger   varchar     NOT NULL DEFAULT 'automatic-2nd-participant',
    is_shared           boolean     NOT NULL DEFAULT false,
    webhook_url         varchar,
    webhook_secret      varchar,
    ics_url             text,
    ics_fetch_interval  integer     DEFAULT 300,
    ics_enabled         boolean     NOT NULL DEFAULT false,
    ics_last_sync       timestamptz,
    ics_last_etag       text,
    platform            varchar     NOT NULL,                       -- whereby | daily | livekit
    skip_consent        boolean     NOT NULL DEFAULT false,
    email_transcript_to varchar,
    store_video         boolean     NOT NULL DEFAULT false
);
CREATE INDEX idx_room_is_shared ON room (is_shared);
CREATE INDEX idx_room_ics_enabled ON room (ics_enabled);

CREATE TABLE calendar_event (
    id           varchar     PRIMARY KEY,
    room_id      varchar     NOT NULL CONSTRAINT fk_calendar_event_room_id REFERENCES room (id) ON DELETE CASCADE,
    ics_uid      text        NOT NULL,
    title        text,
    description  text,
    start_time   timestamptz NOT NULL,
    end_time     timestamptz NOT NULL,
    attendees    jsonb,                                             -- personal data
    location     text,
    ics_raw_data text,                                              -- personal data
    last_synced  timestamptz NOT NULL,
    is_deleted   boolean     NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    CONSTRAINT uq_room_calendar_event UNIQUE (room_id, ics_uid)
);
CREATE INDEX idx_calendar_event_room_start ON calendar_event (room_id, start_time);
CREATE INDEX idx_calendar_event_deleted ON calendar_event (is_deleted) WHERE NOT is_deleted;

CREATE TABLE meeting (
    id                            varchar PRIMARY KEY,
    room_name                     varchar,
    room_url                      varchar,
    host_room_url                 varchar,
    start_date                    timestamptz,
    end_date                      timestamptz,
    room_id                       varchar REFERENCES room (id) ON DELETE CASCADE,
    is_locked                     boolean NOT NULL DEFAULT false,
    room_mode                     varchar NOT NULL DEFAULT 'normal',
    recording_type                varchar NOT NULL DEFAULT 'cloud',
    recording_trigger             varchar NOT NULL DEFAULT 'automatic-2nd-participant',
    num_clients                   integer NOT NULL DEFAULT 0,
    is_active                     boolean NOT NULL DEFAULT true,
    calendar_event_id             varchar CONSTRAINT fk_meeting_calendar_event_id
                                          REFERENCES calendar_event (id) ON DELETE SET NULL,
    calendar_metadata             jsonb,
    platform                      varchar NOT NULL DEFAULT 'whereby',
    daily_composed_video_s3_key   varchar,                          -- key of an object in the video platform's bucket
    daily_composed_video_duration integer,
    email_recipients              jsonb,                            -- [str | {email, include_link}]
    store_video                   boolean NOT NULL DEFAULT false
);
CREATE INDEX idx_meeting_room_id ON meeting (room_id);
CREATE INDEX idx_meeting_calendar_event ON meeting (calendar_event_id);

CREATE TABLE meeting_consent (
    id                varchar     PRIMARY KEY,
    meeting_id        varchar     NOT NULL CONSTRAINT meeting_consent_meeting_id_fkey
                                  REFERENCES meeting (id) ON DELETE CASCADE,   -- migration 5a8907fd1d78
    user_id           varchar,                                                 -- NULL = anonymous participant
    consent_given     boolean     NOT NULL,
    consent_timestamp timestamptz NOT NULL
);

CREATE TABLE daily_participant_session (
    id         varchar     PRIMARY KEY,         -- {meeting_id}:{user_id}:{joined_at_ms}
    meeting_id varchar     NOT NULL REFERENCES meeting (id) ON DELETE CASCADE,
    room_id    varchar     NOT NULL REFERENCES room (id) ON DELETE CASCADE,
    session_id varchar     NOT NULL,
    user_id    varchar,
    user_name  varchar     NOT NULL,
    joined_at  timestamptz NOT NULL,
    left_at    timestamptz
);
CREATE INDEX idx_daily_session_meeting_left ON daily_participant_session (meeting_id, left_at);
CREATE INDEX idx_daily_session_room ON daily_participant_session (room_id);
CREATE FUNCTION prevent_left_at_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- write-once column
    IF OLD.left_at IS NOT NULL THEN RAISE EXCEPTION 'left_at is immutable once set'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER prevent_left_at_update_trigger BEFORE UPDATE ON daily_participant_session
    FOR EACH ROW EXECUTE FUNCTION prevent_left_at_update();

CREATE TABLE recording (
    id          varchar     PRIMARY KEY,
    bucket_name varchar     NOT NULL,           -- may differ from the transcript bucket, other credentials
    object_key  varchar     NOT NULL,           -- single-track object
    recorded_at timestamptz NOT NULL,
    status      varchar     NOT NULL DEFAULT 'pending',   -- pending | processing | completed | failed
    meeting_id  varchar,                        -- NO FK
    track_keys  json,                           -- NULL = single track, [] = no audio, [...] = one S3 key per speaker
    deleted_at  timestamptz                     -- soft delete, since March 2026
);
CREATE INDEX idx_recording_meeting_id ON recording (meeting_id);
CREATE INDEX idx_recording_not_deleted ON recording (id) WHERE deleted_at IS NULL;

CREATE TABLE transcript (
    id               varchar PRIMARY KEY,       -- uuid4; also the name of the local directory and of the S3 prefix
    name             varchar,
    status           varchar,                   -- idle | uploaded | recording | processing | error | ended
    locked           boolean,
    duration         double precision,
    created_at       timestamptz,               -- may be NULL
    title            varchar,
    short_summary    varchar,
    long_summary     varchar,
    action_items     json,
    topics           json,                      -- the words themselves, megabytes
    events           json,
    participants     json,
    source_language  varchar,
    target_language  varchar,
    reviewed         boolean NOT NULL DEFAULT false,
    audio_location   varchar NOT NULL DEFAULT 'local',    -- local: DATA_DIR/<id>/audio.mp3 ; storage: s3 <id>/audio.mp3
    user_id          varchar,                   -- NULL = anonymous = the only rows the retention job takes
    share_mode       varchar NOT NULL DEFAULT 'private',
    meeting_id       varchar,                   -- NO FK, several transcripts may name one meeting
    recording_id     varchar,                   -- NO FK, several transcripts may name one recording
    zulip_message_id integer,                   -- copy held by a third party
    source_kind      sourcekind NOT NULL,
    audio_deleted    boolean,
    room_id          varchar,                   -- NO FK
    webvtt           text,
    workflow_run_id  varchar,
    change_seq       bigint NOT NULL DEFAULT nextval('transcript_change_seq'),
    deleted_at       timestamptz,               -- soft delete, since March 2026
    search_vector_en tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('english', coalesce(title, '')), 'A') ||
        setweight(to_tsvector('english', coalesce(long_summary, '')), 'B') ||
        setweight(to_tsvector('english', coalesce(webvtt, '')), 'C')) STORED
);
CREATE INDEX idx_transcript_recording_id ON transcript (recording_id);
CREATE INDEX idx_transcript_user_id ON transcript (user_id);
CREATE INDEX idx_transcript_created_at ON transcript (created_at);
CREATE INDEX idx_transcript_user_id_recording_id ON transcript (user_id, recording_id);
CREATE INDEX idx_transcript_room_id ON transcript (room_id);
CREATE INDEX idx_transcript_source_kind ON transcript (source_kind);
CREATE INDEX idx_transcript_room_id_created_at ON transcript (room_id, created_at);
CREATE INDEX idx_transcript_change_seq ON transcript (change_seq);
CREATE INDEX idx_transcript_search_vector_en ON transcript USING gin (search_vector_en);
CREATE INDEX idx_transcript_not_deleted ON transcript (id) WHERE deleted_at IS NULL;
CREATE FUNCTION set_transcript_change_seq() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- consumers poll change_seq; a DELETE leaves none behind
    NEW.change_seq := nextval('transcript_change_seq');
    RETURN NEW;
END $$;
CREATE TRIGGER trigger_transcript_change_seq BEFORE INSERT OR UPDATE ON transcript
    FOR EACH ROW EXECUTE FUNCTION set_transcript_change_seq();
