-- The ledger. Migrations only ever expand what the functions of the release before them can still use.

CREATE TABLE polls (
    id              integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title           text        NOT NULL,
    opens_at        timestamptz,
    closes_at       timestamptz,
    votes_per_voter smallint,
    results         text        NOT NULL CHECK (results IN ('live', 'afterClose', 'hidden')),
    contestants     jsonb       NOT NULL, -- read and written whole, together with the version
    draft           boolean     NOT NULL DEFAULT false, -- not public before it opens
    archived_at     timestamptz, -- out of the public list
    gaps            jsonb       NOT NULL DEFAULT '[]', -- between a close and a reopening: votes cast then do not count
    errata          jsonb       NOT NULL DEFAULT '[]', -- corrections beside the certified result
    -- Folded names that numbers have borne since votes may be there, each with its numbers: none changes hands.
    names           jsonb       NOT NULL DEFAULT '{}',
    version         integer     NOT NULL DEFAULT 1,
    epoch           integer     NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp()),
    frozen_at       timestamptz, -- no vote is counted any more, not even one cast in time
    -- Messages were rejected under an earlier definition, and may come again while this one would count them. A
    -- migration sets it, where a release judges otherwise than the one before it.
    rejected_before boolean     NOT NULL DEFAULT false,
    CHECK (closes_at >= opens_at)
);

-- Lists ask every few seconds for what is open or lately closed, however many polls there have been.
CREATE INDEX polls_by_close ON polls (closes_at);

-- For the crew's list: what is closed and not certified.
CREATE INDEX polls_uncertified ON polls (closes_at) WHERE frozen_at IS NULL;

-- What the crew changed: a row for each change, which nothing changes and nothing takes away, a poll's deletion included.
CREATE TABLE journal (
    id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    poll    integer     NOT NULL,
    at      timestamptz NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp()),
    who     text        NOT NULL,
    action  text        NOT NULL,
    version integer     NOT NULL, -- that the poll is of since
    changes jsonb       NOT NULL  -- {"field": {"from": …, "to": …}}
);

CREATE INDEX journal_by_poll ON journal (poll, id);

-- Deleted polls whose public file may be there.
CREATE TABLE deleted_files (
    poll       integer     PRIMARY KEY,
    deleted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    removed_at timestamptz -- once; a writer that was under way may have written it again
);

-- One row a vote, columns in the order that leaves no padding: 64 bytes. No foreign key: it would lock the poll's
-- row for every vote.
--
-- The tags are what a voter asks for a vote by: hashes of the voter and of the message's or the client's id. They are
-- there in polls with a limit, whose keys are made of the ballot and tell neither id: 8 bytes each, and no index,
-- since a voter's ballots are few and found by their keys. Elsewhere they are NULL and take no room.
CREATE TABLE votes (
    key         uuid        PRIMARY KEY,
    voter       bigint      NOT NULL,
    cast_at     timestamptz NOT NULL,
    poll        integer     NOT NULL,
    contestant  smallint    NOT NULL,
    ballot      smallint,
    message_tag bigint,
    id_tag      bigint
);

-- Votes arrive poll by poll, so block ranges tell polls apart at next to no cost per insert.
CREATE INDEX votes_by_poll ON votes USING brin (poll) WITH (autosummarize = on);

-- A message is rejected once, for one reason. A poll that does not exist, or could not be read, is kept as sent.
-- The tag is that of the client's id.
CREATE TABLE rejections (
    message_id uuid        PRIMARY KEY,
    cast_at    timestamptz NOT NULL,
    poll       bigint,
    voter      bigint,
    id_tag     bigint,
    reason     text        NOT NULL
);

CREATE INDEX rejections_by_poll ON rejections (poll, reason);

-- For a voter who asks by the id they gave. Messages without one are not in it.
CREATE INDEX rejections_by_id_tag ON rejections (id_tag) WHERE id_tag IS NOT NULL;

-- Votes cast in time that came after their poll was frozen, each beside its rejection as 'late'. They are kept whole, so
-- that a later certificate can include them. Numbered as they came: a certificate names the last one that is in it.
CREATE TABLE late_votes (
    key         uuid        PRIMARY KEY,
    number      bigint      GENERATED ALWAYS AS IDENTITY,
    message_id  uuid        NOT NULL,
    voter       bigint      NOT NULL,
    cast_at     timestamptz NOT NULL,
    arrived_at  timestamptz NOT NULL,
    poll        integer     NOT NULL,
    contestant  smallint    NOT NULL,
    ballot      smallint,
    message_tag bigint,
    id_tag      bigint
);

CREATE INDEX late_votes_by_poll ON late_votes (poll, number);

-- How many they are, so that a look at what is to be published counts no votes. `published`: as many as the poll's file
-- tells.
CREATE TABLE late_arrivals (
    poll      integer     PRIMARY KEY,
    votes     bigint      NOT NULL,
    first_at  timestamptz NOT NULL,
    last_at   timestamptz NOT NULL,
    published bigint      NOT NULL DEFAULT 0
);

-- Updated by every batch: room in each page keeps the updates HOT, off the index.
CREATE TABLE tallies (
    poll       integer  NOT NULL,
    contestant smallint NOT NULL,
    votes      bigint   NOT NULL,
    PRIMARY KEY (poll, contestant)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- The last observation of a closed poll that is not frozen yet: what its certification waits for.
CREATE TABLE closings (
    poll        integer     PRIMARY KEY,
    closes_at   timestamptz NOT NULL, -- the close that was observed: one that moves is another
    observed_at timestamptz NOT NULL,
    waits_for   text, -- NULL: for nothing
    sign        text,
    until       timestamptz,
    waiting     bigint -- votes that the queue says it holds; NULL: it does not say
);

-- Messages of our own in the votes' queue, one series for all polls: decided in the transaction of the batch that they
-- are in. Old ones are deleted.
CREATE TABLE probes (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sent_at    timestamptz NOT NULL DEFAULT clock_timestamp(), -- before it was
    cast_at    timestamptz,                                    -- by the queue, as a vote's
    decided_at timestamptz,
    handled    bigint,                                         -- messages handled before it was sent, as Redis counts them
    failed     boolean     NOT NULL DEFAULT false              -- the queue has not confirmed that it took it
);

-- When each kind of sign that a batch had failed was last seen. The rest of them follow from the probes.
CREATE TABLE signs (
    kind    text        PRIMARY KEY CHECK (kind IN ('redelivered', 'announced', 'redisAway')),
    seen_at timestamptz NOT NULL
);

-- The certified result of a frozen poll. Made piece by piece: certified_at is NULL until the digest has all votes.
CREATE TABLE certificates (
    poll         integer     PRIMARY KEY,
    basis        text        NOT NULL CHECK (basis IN ('evidence', 'forced')),
    hashed_to    uuid,   -- the digest holds the votes up to this key
    hash_state   bytea,  -- of SHA-256, between two pieces
    certified_at timestamptz,
    digest       bytea,
    tally        jsonb,
    rejected     jsonb,
    voters       bigint,
    published    integer NOT NULL DEFAULT 0 -- the version of the poll that has been published with it
);

-- The certificates beside a poll's first, each with the late votes up to a number. Made piece by piece: certified_at is
-- NULL until the digest has all votes.
CREATE TABLE later_certificates (
    poll          integer NOT NULL,
    number        integer NOT NULL CHECK (number >= 2),
    basis         text    NOT NULL CHECK (basis = 'forced'),
    last_late     bigint  NOT NULL, -- the number of the last late vote that is in it
    hashed_to     uuid,             -- the digest holds the votes up to this key
    hash_state    bytea,            -- of SHA-256, between two pieces
    certified_at  timestamptz,
    digest        bytea,
    late_digest   bytea,
    late_tally    jsonb,
    late_first_at timestamptz,
    late_last_at  timestamptz,
    is_published  boolean NOT NULL DEFAULT false,
    PRIMARY KEY (poll, number)
);

-- A certified poll's votes on their way into a file, in parts: as far as they are in it.
CREATE TABLE exports (
    poll        integer     PRIMARY KEY,
    started_at  timestamptz NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp()),
    upload      text,                              -- the bucket's id of it; NULL: not begun
    etags       text[]      NOT NULL DEFAULT '{}', -- of the parts so far
    exported_to uuid,                              -- the key of the last vote in them
    votes       bigint      NOT NULL DEFAULT 0,
    bytes       bigint      NOT NULL DEFAULT 0,
    failures    integer     NOT NULL DEFAULT 0,    -- in a row
    failure     text,                              -- given up, for this reason
    finished_at timestamptz
);

-- The fence between counting and changing polls: batches share it, a change holds it alone for some milliseconds.
-- What a batch finds under it stays true until the batch commits. The lock manager serves waiters in order, so a
-- show closes its poll at once however many batches are under way. 'vote' in ASCII.
CREATE FUNCTION fence() RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 1987015781::bigint';

-- The places that batches are counted at, a table each, since only a table can be waited for without a snapshot. Two
-- insert, one adds to the tallies; more at a time would take memory caches from each other. It is the connection's
-- number that decides which, so all fill evenly.
CREATE TABLE counting_place_0 ();
CREATE TABLE counting_place_1 ();
CREATE TABLE counting_place_2 ();
CREATE FUNCTION counting_place() RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT pg_backend_pid() % 3';

-- Writes to the log, and nothing else. Once the transaction is committed, whatever it has seen is on disk.
CREATE FUNCTION mark_log() RETURNS pg_lsn LANGUAGE sql VOLATILE AS $$SELECT pg_logical_emit_message(true, 'votes', '')$$;

-- Counts one batch: the only way a vote enters the ledger.
--
-- A procedure, so that a batch is one round trip, while its statements still see what was committed before the fence
-- let it through. Nothing here may be changed in ways that the functions deployed now, or the ones before them, do not
-- expect: a new form gets a new name.
--
-- Every lock is taken in one order by every batch: its place, fence, vote keys ascending, turn, messages ascending, late
-- votes' keys ascending, their polls ascending. So two batches, even of the same votes, never wait for each other in a
-- circle. A batch of probes alone takes them, too: what keeps votes from being counted must keep probes from being decided.
--
-- vote_ballots and the tags: empty where no vote of the batch has a ballot. rejected_contestants, rejected_ballots and
-- rejected_message_tags: of late votes, empty where the batch has none. added_*: the votes of each contestant, if
-- all of them count. current: whether the batch was judged by the current definitions (version 0: no such poll); if
-- not, nothing was done. counted: votes inserted. recorded_reasons: one for each rejection recorded now. tally_*:
-- absolute totals. Of a batch in which every message is a vote that counted now, those that it changed; else of every
-- contestant of every poll in it, since what an earlier delivery of it counted may not have reached the ranking.
--
-- redelivered: a message of the batch was delivered before. unannounced: an announcement of the function's failed since
-- its last count.
CREATE PROCEDURE count_votes(
    judged_polls integer[], judged_versions integer[],
    vote_keys uuid[], vote_messages uuid[], vote_voters bigint[], vote_cast_at timestamptz[], vote_polls integer[],
    vote_contestants smallint[], vote_ballots smallint[], vote_message_tags bigint[], vote_id_tags bigint[],
    added_polls integer[], added_contestants smallint[], added_votes bigint[],
    rejected_messages uuid[], rejected_voters bigint[], rejected_id_tags bigint[], rejected_cast_at timestamptz[],
    rejected_polls bigint[], rejected_reasons text[], rejected_keys uuid[],
    rejected_contestants smallint[], rejected_ballots smallint[], rejected_message_tags bigint[],
    probe_ids bigint[], probe_cast_at timestamptz[], redelivered boolean, unannounced boolean,
    INOUT current boolean = NULL, INOUT counted bigint = NULL, INOUT recorded_reasons text[] = NULL,
    INOUT tally_polls integer[] = NULL, INOUT tally_contestants smallint[] = NULL, INOUT tally_votes bigint[] = NULL
) LANGUAGE plpgsql AS $$
DECLARE
    look_back boolean;
BEGIN
    -- Whoever waits with a snapshot keeps the versions of all tallies that are made meanwhile, and every other batch has
    -- to pass by them: fifty that wait halve what is counted. So the one that came with the call is let go, by rolling
    -- back nothing, and the next is taken when the wait is over; any expression in between would take it at once.
    CASE counting_place()
        WHEN 0 THEN ROLLBACK; LOCK TABLE counting_place_0 IN EXCLUSIVE MODE;
        WHEN 1 THEN ROLLBACK; LOCK TABLE counting_place_1 IN EXCLUSIVE MODE;
        WHEN 2 THEN ROLLBACK; LOCK TABLE counting_place_2 IN EXCLUSIVE MODE;
    END CASE;
    -- The commit does not wait for the disk; what comes after it does.
    SET LOCAL synchronous_commit = off;
    PERFORM pg_advisory_xact_lock_shared(fence());

    SELECT
        coalesce(bool_and(coalesce(polls.version, 0) = judged.version), true),
        coalesce(bool_or(polls.rejected_before), false)
    INTO current, look_back
    FROM unnest(judged_polls, judged_versions) AS judged (id, version) LEFT JOIN polls USING (id);
    IF NOT current THEN
        RETURN;
    END IF;

    -- Nearly all batches hold nothing that has been counted, and a plain insert, without a look before each row and a
    -- mark after it, costs a third less. Where that proves wrong, it is undone and the other way taken; in polls with
    -- a limit voters do send a ballot twice, so there it is not tried.
    --
    -- Either way, a message rejected under an earlier definition stays rejected.
    IF cardinality(vote_ballots) = 0 THEN
        BEGIN
            INSERT INTO votes (key, voter, cast_at, poll, contestant)
            SELECT key, voter, cast_at, poll, contestant
            FROM unnest(vote_keys, vote_messages, vote_voters, vote_cast_at, vote_polls, vote_contestants)
                AS vote (key, message_id, voter, cast_at, poll, contestant)
            WHERE NOT (look_back AND EXISTS (SELECT FROM rejections WHERE rejections.message_id = vote.message_id))
            ORDER BY key;
            GET DIAGNOSTICS counted = ROW_COUNT;
            IF counted < cardinality(vote_keys) THEN
                RAISE unique_violation;
            END IF;
        EXCEPTION WHEN unique_violation THEN
            counted := NULL;
        END;
    END IF;
    IF counted IS NULL THEN
        -- Of two votes of one key in the batch, the one cast first counts.
        WITH inserted AS (
            INSERT INTO votes (key, voter, cast_at, poll, contestant, ballot, message_tag, id_tag)
            SELECT key, voter, cast_at, poll, contestant, ballot, message_tag, id_tag
            FROM unnest(vote_keys, vote_messages, vote_voters, vote_cast_at, vote_polls, vote_contestants,
                        vote_ballots, vote_message_tags, vote_id_tags)
                AS vote (key, message_id, voter, cast_at, poll, contestant, ballot, message_tag, id_tag)
            WHERE NOT (look_back AND EXISTS (SELECT FROM rejections WHERE rejections.message_id = vote.message_id))
            ORDER BY key, cast_at
            ON CONFLICT DO NOTHING
            RETURNING poll, contestant
        ), added AS (
            SELECT poll, contestant, count(*) AS votes FROM inserted GROUP BY poll, contestant
        )
        SELECT coalesce(sum(votes), 0), array_agg(poll), array_agg(contestant), array_agg(votes)
        INTO counted, added_polls, added_contestants, added_votes FROM added;
    END IF;

    -- The turn at the tallies, until the commit. Without it, batches would wait for each other's rows, and then look at
    -- each of them again. Two numbers are a lock space apart from the fence's.
    PERFORM pg_advisory_xact_lock(2, 0);
    WITH raised AS (
        UPDATE tallies SET votes = tallies.votes + added.votes
        FROM unnest(added_polls, added_contestants, added_votes) AS added (poll, contestant, votes)
        WHERE tallies.poll = added.poll AND tallies.contestant = added.contestant
        RETURNING tallies.poll, tallies.contestant, tallies.votes
    )
    SELECT array_agg(poll), array_agg(contestant), array_agg(votes)
    INTO tally_polls, tally_contestants, tally_votes FROM raised;

    -- Every contestant has a tally, unless a hand has deleted it: then it begins anew, until the poll is rebuilt.
    IF coalesce(cardinality(tally_polls), 0) < cardinality(added_polls) THEN
        INSERT INTO tallies (poll, contestant, votes)
        SELECT * FROM unnest(added_polls, added_contestants, added_votes) AS added (poll, contestant, votes)
        WHERE (poll, contestant) NOT IN (SELECT * FROM unnest(tally_polls, tally_contestants));
        tally_polls := NULL;
    END IF;

    -- A vote counted under an earlier definition is not rejected under this one.
    IF cardinality(rejected_messages) > 0 THEN
        WITH recorded AS (
            INSERT INTO rejections (message_id, voter, id_tag, cast_at, poll, reason)
            SELECT message_id, voter, id_tag, cast_at, poll, reason
            FROM unnest(rejected_messages, rejected_voters, rejected_id_tags, rejected_cast_at, rejected_polls,
                        rejected_reasons, rejected_keys)
                AS rejected (message_id, voter, id_tag, cast_at, poll, reason, key)
            WHERE NOT EXISTS (SELECT FROM votes WHERE votes.key = rejected.key)
            ORDER BY message_id
            ON CONFLICT DO NOTHING
            RETURNING message_id, reason
        ), arrival AS MATERIALIZED (
            -- One moment for the whole batch.
            SELECT date_trunc('milliseconds', clock_timestamp()) AS arrived_at
        ), kept AS (
            -- A late vote of which another message has come before is that vote.
            INSERT INTO late_votes
                (key, message_id, voter, cast_at, arrived_at, poll, contestant, ballot, message_tag, id_tag)
            SELECT key, message_id, voter, cast_at, arrived_at, poll, contestant, ballot, message_tag,
                CASE WHEN ballot IS NOT NULL THEN id_tag END
            FROM arrival CROSS JOIN unnest(rejected_messages, rejected_voters, rejected_id_tags, rejected_cast_at, rejected_polls,
                        rejected_keys, rejected_contestants, rejected_ballots, rejected_message_tags)
                AS late (message_id, voter, id_tag, cast_at, poll, key, contestant, ballot, message_tag)
            WHERE contestant IS NOT NULL AND message_id IN (SELECT message_id FROM recorded)
            ORDER BY key, cast_at
            ON CONFLICT DO NOTHING
            RETURNING poll, arrived_at
        ), arrived AS (
            INSERT INTO late_arrivals AS seen (poll, votes, first_at, last_at)
            SELECT poll, count(*), min(arrived_at), max(arrived_at) FROM kept GROUP BY poll ORDER BY poll
            ON CONFLICT (poll) DO UPDATE SET
                votes = seen.votes + excluded.votes, last_at = greatest(seen.last_at, excluded.last_at)
        )
        SELECT array_agg(reason) INTO recorded_reasons FROM recorded;
    END IF;

    IF tally_polls IS NULL OR counted < cardinality(vote_keys) OR cardinality(rejected_messages) > 0 THEN
        SELECT array_agg(poll), array_agg(contestant), array_agg(votes)
        INTO tally_polls, tally_contestants, tally_votes
        FROM tallies WHERE poll = ANY (judged_polls);
    END IF;

    -- In the turn, so that batches meet in these rows one after the other. A probe is decided once.
    IF cardinality(probe_ids) > 0 THEN
        UPDATE probes SET cast_at = delivered.cast_at, decided_at = clock_timestamp()
        FROM unnest(probe_ids, probe_cast_at) AS delivered (id, cast_at)
        WHERE probes.id = delivered.id AND probes.decided_at IS NULL;
    END IF;
    IF redelivered OR unannounced THEN
        INSERT INTO signs (kind, seen_at)
        SELECT kind, clock_timestamp()
        FROM (VALUES ('redelivered', redelivered), ('redisAway', unannounced)) AS sign (kind, is_seen)
        WHERE is_seen
        ON CONFLICT (kind) DO UPDATE SET seen_at = greatest(signs.seen_at, excluded.seen_at);
    END IF;

    -- The locks are free before the disk has the batch: else every other batch would wait for the disk, at the tallies.
    -- A mark in the log, committed as usual, is on disk when all before it is. That is also what others committed and
    -- this batch found its votes counted by, so the mark is made even where nothing was inserted.
    COMMIT;
    PERFORM mark_log();
END
$$;
