-- The ledger. Migrations only expand the schema, so that functions of the previous release can still use it.

CREATE TABLE polls (
    id              integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title           text        NOT NULL,
    opens_at        timestamptz,
    closes_at       timestamptz,
    votes_per_voter smallint,
    taps_max        smallint    NOT NULL DEFAULT 1, -- that one vote may stand for
    results         text        NOT NULL CHECK (results IN ('live', 'afterClose', 'hidden')),
    pace            smallint    CHECK (pace IN (3, 5, 10)), -- seconds between two requests of a page; NULL: by the clock
    contestants     jsonb       NOT NULL, -- read and written whole, together with the version
    draft           boolean     NOT NULL DEFAULT false, -- not public before it opens
    archived_at     timestamptz, -- out of the public list
    gaps            jsonb       NOT NULL DEFAULT '[]', -- between close and reopening: no votes count
    errata          jsonb       NOT NULL DEFAULT '[]', -- corrections beside the certified result
    -- Folded names since the poll's opening or first vote, each with its numbers: no name moves to another number.
    names           jsonb       NOT NULL DEFAULT '{}',
    version         integer     NOT NULL DEFAULT 1,
    epoch           integer     NOT NULL DEFAULT 1,
    -- Changes of a certified poll's public file: a new version, a supplement, late votes, a later certificate.
    edition         integer     NOT NULL DEFAULT 0,
    published       integer     NOT NULL DEFAULT 0, -- the edition that was written with the certificate
    created_at      timestamptz NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp()),
    frozen_at       timestamptz, -- since then no vote is counted, not even one cast in time
    -- Messages were rejected under an earlier definition. They may be redelivered, and this definition would count
    -- them. A migration sets it if a release judges differently from the one before it.
    rejected_before boolean     NOT NULL DEFAULT false,
    CHECK (closes_at >= opens_at)
);

-- For lists, which select open and recently closed polls every few seconds, independently of the number of polls.
CREATE INDEX polls_by_close ON polls (closes_at);

-- For the crew's list of closed, uncertified polls.
CREATE INDEX polls_uncertified ON polls (closes_at) WHERE frozen_at IS NULL;

-- For the polls whose public file is due, which are selected every 3 s, independently of the number of certified polls.
CREATE INDEX polls_open_or_uncertified ON polls (opens_at) WHERE frozen_at IS NULL;
CREATE INDEX polls_unpublished ON polls (id) WHERE frozen_at IS NOT NULL AND published < edition;

-- The crew's changes, one row each. Rows are never updated or deleted, not even when a poll is deleted.
CREATE TABLE journal (
    id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    poll    integer     NOT NULL,
    at      timestamptz NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp()),
    who     text        NOT NULL,
    action  text        NOT NULL,
    version integer     NOT NULL, -- the poll's version after the change
    changes jsonb       NOT NULL  -- {"field": {"from": …, "to": …}}
);

CREATE INDEX journal_by_poll ON journal (poll, id);

-- Deleted polls whose public file may still exist.
CREATE TABLE deleted_files (
    poll       integer     PRIMARY KEY,
    deleted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    removed_at timestamptz -- the first deletion; a writer in progress may have written the file again
);

-- The public files of polls' titles and contestants, each named by its content.
CREATE TABLE names_files (
    poll         integer NOT NULL,
    hash         text    NOT NULL,
    unused_since timestamptz DEFAULT clock_timestamp(), -- NULL: the poll's file and the list name it
    PRIMARY KEY (poll, hash)
);

CREATE INDEX names_files_unused ON names_files (unused_since) WHERE unused_since IS NOT NULL;

-- One row for each vote, with columns in the order that needs no padding: 80 bytes. There is no foreign key: it would
-- lock the poll's row for every vote.
--
-- The poll is the first column of the key, so that every question about one poll's votes, all of them in the order of
-- their keys included, reads the rows of this poll alone, however many other polls are in the ledger.
--
-- The tags are lookup keys for receipts: hashes of the voter and of the message's or the client's id. Only votes of
-- polls with a limit have them, since their keys are derived from the ballot and not from an id. A tag takes 8 bytes
-- and needs no index, since a voter's few ballots are found by their keys. In other polls the tags are NULL and take
-- no space.
CREATE TABLE votes (
    key         uuid        NOT NULL,
    voter       bigint      NOT NULL,
    cast_at     timestamptz NOT NULL,
    message_tag bigint,
    id_tag      bigint,
    poll        integer     NOT NULL,
    batch       integer     NOT NULL DEFAULT 0, -- from the sequence `batches`; 0: unknown
    contestant  smallint    NOT NULL,
    count       smallint    NOT NULL DEFAULT 1, -- the taps that the vote stands for
    place       smallint    NOT NULL DEFAULT 0, -- in its request
    ballot      smallint,
    PRIMARY KEY (poll, key)
) PARTITION BY RANGE (poll);

-- Rehearsals are numbered from a billion, so their votes have a partition of their own. Its owner can empty it without
-- touching a vote of a show.
CREATE TABLE show_votes PARTITION OF votes FOR VALUES FROM (MINVALUE) TO (1000000000);
CREATE TABLE rehearsal_votes PARTITION OF votes FOR VALUES FROM (1000000000) TO (MAXVALUE);

-- The names of batches. Batches insert side by side, so a name says nothing of the order of commits. It cycles after some
-- years of votes without a break.
CREATE SEQUENCE batches AS integer CYCLE;

-- What the public log says of a batch, for each of its polls. The numbers are taken under the tally lock, so they follow
-- the commits: who sees a number sees all lower ones. One value for all entries of a batch costs a third of a column in
-- each vote, and needs no index.
--
-- An entry is 36 bytes: tag, opening, contestant, count. It has whatever the log publishes, so that a cut and its check
-- against the tallies never read the votes.
CREATE SEQUENCE log_numbers;
CREATE TABLE log_batches (
    number         bigint      NOT NULL,
    cast_from      timestamptz NOT NULL,
    cast_to        timestamptz NOT NULL,
    poll           integer     NOT NULL,
    batch          integer     NOT NULL, -- of its votes
    entries        bytea       NOT NULL DEFAULT '', -- of counted votes
    other_tags     uuid[]      NOT NULL DEFAULT '{}', -- of votes that were recorded as rejected
    other_reasons  text[]      NOT NULL DEFAULT '{}',
    PRIMARY KEY (poll, number)
);
-- Entries are random bytes: no attempt to compress them succeeds.
ALTER TABLE log_batches ALTER COLUMN entries SET STORAGE EXTERNAL, ALTER COLUMN other_tags SET STORAGE EXTERNAL;

-- What the public log has published: files of the batches from `first` to `last`. A cut is here before its first file is
-- written. Its files are a function of the batches, so they may be written again.
CREATE TABLE cuts (
    poll         integer     NOT NULL,
    number       integer     NOT NULL, -- from 1
    first        bigint      NOT NULL,
    last         bigint      NOT NULL,
    cast_from    timestamptz NOT NULL,
    cast_to      timestamptz NOT NULL,
    casts        integer     NOT NULL, -- counted votes
    votes        bigint      NOT NULL, -- the taps that they stand for
    bits         smallint,             -- of a tag, which choose its file among 2^bits; NULL: no counted votes
    hashes       bytea       NOT NULL, -- SHA-256 of each file
    other_bits   smallint,
    other_hashes bytea       NOT NULL,
    written_at   timestamptz,          -- NULL: some files may not exist
    PRIMARY KEY (poll, number)
);

-- A vote of a message is rejected once, for one reason. The tag is that of the client's id.
--
-- A voter has at most 1,000 rows for one poll, and as many for all messages that name no existing poll: beyond them a
-- rejection is counted only. Rows are deleted 30 days after the poll's certification, and without a poll 30 days after
-- casting: SQS redelivers for 14 days.
CREATE TABLE rejections (
    message_id uuid        NOT NULL,
    cast_at    timestamptz NOT NULL,
    voter      bigint      NOT NULL, -- 0: the message has no voter
    id_tag     bigint,
    named      bigint,               -- the number in the message if no poll had it
    poll       integer     NOT NULL, -- 0: the message names no existing poll
    number     smallint    NOT NULL DEFAULT 1, -- among the voter's rows for this poll, from 1
    place      smallint    NOT NULL DEFAULT 0, -- in its request
    reason     text        NOT NULL,
    PRIMARY KEY (message_id, place)
);

CREATE INDEX rejections_by_voter ON rejections (poll, voter, number);

-- For a new poll: whether messages were rejected for the lack of it.
CREATE INDEX rejections_by_name ON rejections (named) WHERE named IS NOT NULL;

CREATE INDEX rejections_without_poll ON rejections (cast_at) WHERE poll = 0;

-- All rejections ever, by poll and reason. Poll 0: the message named no existing poll.
CREATE TABLE rejection_counts (
    poll   integer NOT NULL,
    reason text    NOT NULL,
    count  bigint  NOT NULL,
    PRIMARY KEY (poll, reason)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Votes cast in time that arrived after their poll was frozen. Each also has a rejection as 'late'. All their fields
-- are stored, so that a later certificate can include them. They are numbered in order of arrival: a certificate
-- stores the number of the last one that it includes.
CREATE TABLE late_votes (
    key         uuid        NOT NULL,
    number      bigint      GENERATED ALWAYS AS IDENTITY,
    message_id  uuid        NOT NULL,
    voter       bigint      NOT NULL,
    cast_at     timestamptz NOT NULL,
    arrived_at  timestamptz NOT NULL,
    poll        integer     NOT NULL,
    contestant  smallint    NOT NULL,
    count       smallint    NOT NULL DEFAULT 1,
    place       smallint    NOT NULL DEFAULT 0,
    ballot      smallint,
    message_tag bigint,
    id_tag      bigint,
    PRIMARY KEY (poll, key)
);

CREATE INDEX late_votes_by_poll ON late_votes (poll, number);

-- The number of late votes, so that the query for publishable polls need not count them.
CREATE TABLE late_arrivals (
    poll      integer     PRIMARY KEY,
    votes     bigint      NOT NULL,
    first_at  timestamptz NOT NULL,
    last_at   timestamptz NOT NULL
);

-- Every batch updates these rows. Free space in each page keeps the updates HOT, so they do not touch the index.
CREATE TABLE tallies (
    poll       integer  NOT NULL,
    contestant smallint NOT NULL,
    votes      bigint   NOT NULL, -- the sum of the counts
    casts      bigint   NOT NULL DEFAULT 0, -- the rows of votes
    PRIMARY KEY (poll, contestant)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- The last observation of a closed poll that is not frozen yet: the condition that its certification waits for.
CREATE TABLE closings (
    poll        integer     PRIMARY KEY,
    closes_at   timestamptz NOT NULL, -- the observed close: after it moves, the observation is invalid
    observed_at timestamptz NOT NULL,
    waits_for   text, -- NULL: no condition
    sign        text,
    until       timestamptz,
    waiting     bigint -- votes in the queue; NULL: the queue does not report them
);

-- Messages of our own in the votes' queue, one series for all polls. A probe is decided in the transaction of its
-- batch. Old probes are deleted.
CREATE TABLE probes (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sent_at    timestamptz NOT NULL DEFAULT clock_timestamp(), -- just before sending
    cast_at    timestamptz,                                    -- by the queue's clock, as for a vote
    decided_at timestamptz,
    handled    bigint,                                         -- Redis's counter of handled messages at sending
    failed     boolean     NOT NULL DEFAULT false              -- the queue has not confirmed the message
);

-- The last time of each kind of sign that a batch has failed. The other kinds are derived from the probes.
CREATE TABLE signs (
    kind    text        PRIMARY KEY CHECK (kind IN ('redelivered', 'announced', 'redisAway')),
    seen_at timestamptz NOT NULL
);

-- The certified result of a frozen poll: a copy of its counters, taken while no batch was counting. The supplement is
-- a pass over its votes, in pieces, and changes nothing above it.
CREATE TABLE certificates (
    poll            integer     PRIMARY KEY,
    basis           text        NOT NULL CHECK (basis IN ('evidence', 'forced')),
    certified_at    timestamptz NOT NULL,
    tally           jsonb       NOT NULL,
    rejected        jsonb       NOT NULL,
    has_rejections  boolean     NOT NULL DEFAULT true, -- rows of rejections, which are deleted after 30 days
    hashed_to       uuid,   -- the supplement includes the votes up to this key
    hash_state      bytea,  -- the state of SHA-256 between two pieces
    recount         jsonb,  -- the votes of each contestant up to this key
    digest          bytea,
    voters          bigint,
    supplemented_at timestamptz
);

CREATE INDEX certificates_without_supplement ON certificates (certified_at) WHERE supplemented_at IS NULL;
CREATE INDEX certificates_with_rejections ON certificates (certified_at) WHERE has_rejections;

-- The later certificates of a poll, each with the late votes up to a number. They are computed in pieces:
-- certified_at is NULL until the digest has all votes.
CREATE TABLE later_certificates (
    poll          integer NOT NULL,
    number        integer NOT NULL CHECK (number >= 2),
    basis         text    NOT NULL CHECK (basis = 'forced'),
    last_late     bigint  NOT NULL, -- the number of the last included late vote
    hashed_to     uuid,             -- the digest includes the votes up to this key
    hash_state    bytea,            -- the state of SHA-256 between two pieces
    certified_at  timestamptz,
    digest        bytea,
    late_digest   bytea,
    late_tally    jsonb,
    late_first_at timestamptz,
    late_last_at  timestamptz,
    PRIMARY KEY (poll, number)
);

CREATE INDEX later_certificates_unfinished ON later_certificates (poll) WHERE certified_at IS NULL;

-- The export of a certified poll's votes into a file, in parts, with its progress.
CREATE TABLE exports (
    poll        integer     PRIMARY KEY,
    started_at  timestamptz NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp()),
    upload      text,                              -- the id of the multipart upload; NULL: not begun
    etags       text[]      NOT NULL DEFAULT '{}', -- of the uploaded parts
    exported_to uuid,                              -- the key of the last uploaded vote
    votes       bigint      NOT NULL DEFAULT 0,
    bytes       bigint      NOT NULL DEFAULT 0,
    failures    integer     NOT NULL DEFAULT 0,    -- consecutive
    failure     text,                              -- the reason why it was abandoned
    finished_at timestamptz
);

-- Whether the public log of a poll has something to publish.
CREATE FUNCTION has_uncut(integer) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT EXISTS (
        SELECT FROM (
            SELECT max(last) AS last, bool_and(written_at IS NOT NULL) AS is_written
            FROM (SELECT last, written_at FROM cuts WHERE poll = $1 ORDER BY number DESC LIMIT 1) AS latest
        ) AS cut
        WHERE NOT is_written
            OR EXISTS (SELECT FROM log_batches WHERE poll = $1 AND number > coalesce(cut.last, 0)))
$$;

-- The key of the definition lock between counting and changing polls: batches hold it shared, a change holds it
-- exclusively for some milliseconds. Definitions that a batch reads under the lock stay valid until the batch
-- commits. The lock manager serves waiters in order, so a close of a poll waits only for the batches in flight. The
-- number is 'vote' in ASCII.
CREATE FUNCTION fence() RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 1987015781::bigint';

-- The counting slots limit the number of concurrent batches. Each slot is a table, since only LOCK TABLE can wait
-- without a snapshot. Of three concurrent batches, two insert votes and one updates the tallies; more would compete
-- for the CPU's caches. The number of the connection's process selects the slot, which spreads connections evenly.
CREATE TABLE counting_place_0 ();
CREATE TABLE counting_place_1 ();
CREATE TABLE counting_place_2 ();
CREATE FUNCTION counting_place() RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT pg_backend_pid() % 3';

-- The flush barrier: writes a message to the write-ahead log and nothing else. Once its transaction is committed, all
-- commits that the transaction has seen are on disk.
CREATE FUNCTION mark_log() RETURNS pg_lsn LANGUAGE sql VOLATILE AS $$SELECT pg_logical_emit_message(true, 'votes', '')$$;

-- Counts one batch: the only way a vote enters the ledger.
--
-- A procedure makes a batch one round trip, and its statements still see all commits from before the definition lock
-- was granted. Its form must stay compatible with the functions of this release and of the previous one: a new form
-- gets a new name.
--
-- Every batch takes its locks in the same order: counting slot, definition lock, vote keys ascending, tally lock,
-- messages ascending, late votes' keys ascending, their polls ascending. So two batches, even of the same votes,
-- never deadlock. A batch of probes alone takes the same locks, so that anything that blocks votes also blocks
-- probes.
--
-- vote_*: ascending by poll, key and time of casting; of two votes with the same key, the first one counts.
-- vote_counts, vote_places and added_casts: empty if each vote is one tap, or the only vote of its request. vote_ballots
-- and the tags: empty if no vote of the batch has a ballot. rejected_contestants, rejected_counts, rejected_ballots and
-- rejected_message_tags: fields of late votes, empty if the batch has none. added_*: the votes of each contestant if
-- all votes count. current: whether the batch was judged by the current definitions (version 0: no such poll); if
-- not, nothing was counted. counted: the number of inserted rows. counted_taps: the taps that they stand for.
-- recorded_reasons: the reason of each new rejection, recorded or only counted. tally_*: absolute totals. If every
-- message of the batch is a newly counted vote, and none is a contestant's first, they are the changed totals; else
-- those of every contestant of every poll in it, since totals from an earlier delivery may not have reached the ranking.
--
-- redelivered: a message of the batch was delivered before. unannounced: an announcement of the function instance has
-- failed since its last count. repeats_expected: votes of the batch may be in the ledger already.
CREATE PROCEDURE count_votes(
    judged_polls integer[], judged_versions integer[],
    vote_keys uuid[], vote_messages uuid[], vote_voters bigint[], vote_cast_at timestamptz[], vote_polls integer[],
    vote_contestants smallint[], vote_counts smallint[], vote_places smallint[], vote_ballots smallint[],
    vote_message_tags bigint[], vote_id_tags bigint[], vote_log_entries bytea,
    log_polls integer[], log_firsts integer[], log_counts integer[], log_cast_from timestamptz[], log_cast_to timestamptz[],
    added_polls integer[], added_contestants smallint[], added_votes bigint[], added_casts bigint[],
    rejected_messages uuid[], rejected_voters bigint[], rejected_id_tags bigint[], rejected_cast_at timestamptz[],
    rejected_polls bigint[], rejected_reasons text[], rejected_keys uuid[], rejected_places smallint[],
    rejected_log_tags uuid[],
    rejected_contestants smallint[], rejected_counts smallint[], rejected_ballots smallint[],
    rejected_message_tags bigint[],
    probe_ids bigint[], probe_cast_at timestamptz[], redelivered boolean, unannounced boolean,
    repeats_expected boolean,
    INOUT current boolean = NULL, INOUT counted bigint = NULL, INOUT counted_taps bigint = NULL,
    INOUT recorded_reasons text[] = NULL,
    INOUT tally_polls integer[] = NULL, INOUT tally_contestants smallint[] = NULL, INOUT tally_votes bigint[] = NULL
) LANGUAGE plpgsql AS $$
DECLARE
    look_back boolean;
    batch_number integer;
    known uuid[];
    has_first_votes boolean;
    log_number bigint;
    log_entries bytea[];
BEGIN
    -- A waiting transaction that holds a snapshot keeps dead tally versions alive, and every other batch must skip
    -- over them: fifty waiting batches halve the throughput. So a ROLLBACK, which has nothing to undo, releases the
    -- snapshot of the call. The next snapshot is taken after the wait. Any expression before LOCK TABLE would take
    -- one at once.
    CASE counting_place()
        WHEN 0 THEN ROLLBACK; LOCK TABLE counting_place_0 IN EXCLUSIVE MODE;
        WHEN 1 THEN ROLLBACK; LOCK TABLE counting_place_1 IN EXCLUSIVE MODE;
        WHEN 2 THEN ROLLBACK; LOCK TABLE counting_place_2 IN EXCLUSIVE MODE;
    END CASE;
    -- This commit does not wait for the disk. The flush barrier after it does.
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

    -- A plain INSERT costs half of ON CONFLICT, which checks the index before each row and confirms each row after it.
    -- But a repeated vote undoes a plain INSERT, and its rows remain as garbage. So where repeats are likely, one scan
    -- of the index, in its order, finds them beforehand.
    batch_number := nextval('batches');
    repeats_expected := repeats_expected OR redelivered OR look_back;
    LOOP
        BEGIN
            IF repeats_expected THEN
                SELECT coalesce(array_agg(votes.key), '{}') INTO known
                FROM (
                    SELECT poll, array_agg(key) AS keys FROM unnest(vote_polls, vote_keys) AS vote (poll, key) GROUP BY poll
                ) AS asked JOIN votes ON votes.poll = asked.poll AND votes.key = ANY (asked.keys);
                -- A message rejected under an earlier definition stays rejected.
                WITH fresh AS MATERIALIZED (
                    SELECT DISTINCT ON (poll, key) key, voter, cast_at, poll, contestant, coalesce(count, 1::smallint) AS count,
                        coalesce(place, 0::smallint) AS place, ballot, message_tag, id_tag, position
                    FROM unnest(vote_keys, vote_messages, vote_voters, vote_cast_at, vote_polls, vote_contestants,
                                vote_counts, vote_places, vote_ballots, vote_message_tags, vote_id_tags)
                        WITH ORDINALITY AS vote
                            (key, message_id, voter, cast_at, poll, contestant, count, place, ballot, message_tag,
                             id_tag, position)
                    WHERE key <> ALL (known) AND NOT (look_back AND EXISTS (
                        SELECT FROM rejections
                        WHERE rejections.message_id = vote.message_id AND rejections.place = coalesce(vote.place, 0)))
                    ORDER BY poll, key, cast_at
                ), inserted AS (
                    INSERT INTO votes
                        (key, voter, cast_at, poll, contestant, count, place, ballot, message_tag, id_tag, batch)
                    SELECT key, voter, cast_at, poll, contestant, count, place, ballot, message_tag, id_tag, batch_number
                    FROM fresh
                ), added AS (
                    SELECT poll, contestant, sum(count) AS votes, count(*) AS casts FROM fresh GROUP BY poll, contestant
                ), logged AS (
                    SELECT poll, min(cast_at) AS cast_from, max(cast_at) AS cast_to,
                        string_agg(substring(vote_log_entries FROM position::integer * 36 - 35 FOR 36), '') AS entries
                    FROM fresh GROUP BY poll
                )
                SELECT (SELECT count(*) FROM fresh),
                    (SELECT array_agg(poll) FROM added), (SELECT array_agg(contestant) FROM added),
                    (SELECT array_agg(votes) FROM added), (SELECT array_agg(casts) FROM added),
                    array_agg(poll), array_agg(entries), array_agg(cast_from), array_agg(cast_to)
                INTO counted, added_polls, added_contestants, added_votes, added_casts,
                    log_polls, log_entries, log_cast_from, log_cast_to
                FROM logged;
                log_firsts := NULL;
                log_counts := NULL;
            ELSE
                INSERT INTO votes
                    (key, voter, cast_at, poll, contestant, count, place, ballot, message_tag, id_tag, batch)
                SELECT key, voter, cast_at, poll, contestant, coalesce(count, 1), coalesce(place, 0), ballot, message_tag,
                    id_tag, batch_number
                FROM unnest(vote_keys, vote_voters, vote_cast_at, vote_polls, vote_contestants, vote_counts, vote_places,
                            vote_ballots, vote_message_tags, vote_id_tags)
                    AS vote (key, voter, cast_at, poll, contestant, count, place, ballot, message_tag, id_tag);
                GET DIAGNOSTICS counted = ROW_COUNT;
            END IF;
            EXIT;
        EXCEPTION WHEN unique_violation THEN
            -- The transaction that inserted the same vote is committed now, and the next round sees it.
            repeats_expected := true;
        END;
    END LOOP;

    SELECT coalesce(sum(votes), 0) INTO counted_taps FROM unnest(added_votes) AS added (votes);

    -- The tally lock, held until the commit. Without it, batches would wait for each other's rows and then recheck
    -- each row. Locks of two numbers do not conflict with the definition lock, which has one.
    PERFORM pg_advisory_xact_lock(2, 0);
    WITH raised AS (
        UPDATE tallies SET votes = tallies.votes + added.votes,
            casts = tallies.casts + coalesce(added.casts, added.votes)
        FROM unnest(added_polls, added_contestants, added_votes, added_casts)
            AS added (poll, contestant, votes, casts)
        WHERE tallies.poll = added.poll AND tallies.contestant = added.contestant
        RETURNING tallies.poll, tallies.contestant, tallies.votes, tallies.votes = added.votes AS is_first
    )
    SELECT array_agg(poll), array_agg(contestant), array_agg(votes), coalesce(bool_or(is_first), false)
    INTO tally_polls, tally_contestants, tally_votes, has_first_votes FROM raised;

    IF counted > 0 OR cardinality(rejected_messages) > 0 OR counted < cardinality(vote_keys) THEN
        log_number := nextval('log_numbers');
        INSERT INTO log_batches (poll, number, batch, entries, cast_from, cast_to)
        SELECT poll, log_number, batch_number,
            coalesce(entries, substring(vote_log_entries FROM first * 36 + 1 FOR count * 36)), cast_from, cast_to
        FROM unnest(log_polls, log_firsts, log_counts, log_cast_from, log_cast_to, log_entries)
            AS piece (poll, first, count, cast_from, cast_to, entries);
    END IF;

    -- Every contestant has a tally, unless an operator has deleted it. Then it restarts from zero until the poll is
    -- rebuilt.
    IF coalesce(cardinality(tally_polls), 0) < cardinality(added_polls) THEN
        INSERT INTO tallies (poll, contestant, votes, casts)
        SELECT poll, contestant, votes, coalesce(casts, votes)
        FROM unnest(added_polls, added_contestants, added_votes, added_casts)
            AS added (poll, contestant, votes, casts)
        WHERE (poll, contestant) NOT IN (SELECT * FROM unnest(tally_polls, tally_contestants));
        tally_polls := NULL;
    END IF;

    -- A ballot that another vote of the voter has used is recorded, so that the voter learns it. The same vote has the
    -- same place in the same message, or in another message with the same id.
    IF counted < cardinality(vote_keys) AND cardinality(vote_ballots) > 0 THEN
        SELECT rejected_messages || array_agg(message_id), rejected_voters || array_agg(vote.voter),
            rejected_id_tags || array_agg(vote.id_tag), rejected_cast_at || array_agg(vote.cast_at),
            rejected_polls || array_agg(vote.poll::bigint), rejected_reasons || array_agg('ballotUsed'::text),
            rejected_keys || array_agg(NULL::uuid), rejected_places || array_agg(coalesce(vote.place, 0::smallint)),
            rejected_log_tags || array_agg(
                encode(substring(vote_log_entries FROM position::integer * 36 - 35 FOR 16), 'hex')::uuid)
        INTO rejected_messages, rejected_voters, rejected_id_tags, rejected_cast_at, rejected_polls, rejected_reasons,
            rejected_keys, rejected_places, rejected_log_tags
        FROM unnest(vote_keys, vote_messages, vote_voters, vote_cast_at, vote_polls, vote_places, vote_ballots,
                    vote_message_tags, vote_id_tags)
            WITH ORDINALITY AS vote
                (key, message_id, voter, cast_at, poll, place, ballot, message_tag, id_tag, position)
        JOIN votes USING (poll, key)
        WHERE vote.ballot IS NOT NULL
            AND (coalesce(vote.place, 0) = votes.place
                AND (vote.message_tag = votes.message_tag OR vote.id_tag = votes.id_tag)) IS NOT TRUE;
    END IF;

    -- A vote counted under an earlier definition is not rejected under this one. Under the tally lock, `new` sees
    -- every rejection of earlier batches.
    IF cardinality(rejected_messages) > 0 THEN
        WITH new AS MATERIALIZED (
            SELECT DISTINCT ON (message_id, place) message_id, coalesce(voter, 0) AS voter, rejected.id_tag, cast_at,
                coalesce(polls.id, 0) AS poll, CASE WHEN polls.id IS NULL THEN named END AS named, reason, key,
                place, contestant, coalesce(rejected.count, 1) AS count, ballot, message_tag, log_tag,
                (NOT polls.draft OR now() >= polls.opens_at) AND now() > polls.opens_at - interval '10 minutes'
                    AND coalesce(now() < polls.closes_at + interval '10 minutes', true) AS is_public,
                CASE WHEN certificates.certified_at < now() - interval '30 days' THEN 0 ELSE 1000 END AS rows_max
            FROM unnest(rejected_messages, rejected_voters, rejected_id_tags, rejected_cast_at, rejected_polls,
                        rejected_reasons, rejected_keys, rejected_places, rejected_contestants, rejected_counts,
                        rejected_ballots, rejected_message_tags, rejected_log_tags)
                AS rejected (message_id, voter, id_tag, cast_at, named, reason, key, place, contestant, count, ballot,
                             message_tag, log_tag)
            LEFT JOIN polls ON polls.id = named LEFT JOIN certificates ON certificates.poll = polls.id
            WHERE NOT EXISTS (SELECT FROM votes WHERE votes.poll = polls.id AND votes.key = rejected.key)
                AND NOT EXISTS (
                    SELECT FROM rejections
                    WHERE rejections.message_id = rejected.message_id AND rejections.place = rejected.place)
            ORDER BY message_id, place
        ), numbered AS (
            SELECT *, row_number() OVER (PARTITION BY poll, voter ORDER BY message_id, place) + coalesce((
                SELECT number FROM rejections WHERE rejections.poll = new.poll AND rejections.voter = new.voter
                ORDER BY number DESC LIMIT 1), 0) AS number
            FROM new
        ), recorded AS (
            INSERT INTO rejections (message_id, cast_at, voter, id_tag, named, poll, number, place, reason)
            SELECT message_id, cast_at, voter, id_tag, named, poll, number, place, reason
            FROM numbered
            WHERE number <= rows_max
            ORDER BY message_id, place
        ), logged AS (
            INSERT INTO log_batches (poll, number, batch, other_tags, other_reasons, cast_from, cast_to)
            SELECT poll, log_number, batch_number, array_agg(log_tag), array_agg(reason), min(cast_at), max(cast_at)
            FROM numbered
            WHERE number <= rows_max AND is_public AND log_tag IS NOT NULL
            GROUP BY poll
            ON CONFLICT (poll, number) DO UPDATE SET
                other_tags = excluded.other_tags, other_reasons = excluded.other_reasons,
                cast_from = least(log_batches.cast_from, excluded.cast_from),
                cast_to = greatest(log_batches.cast_to, excluded.cast_to)
        ), recounted AS (
            INSERT INTO rejection_counts AS total (poll, reason, count)
            SELECT poll, reason, count(*) FROM new GROUP BY poll, reason ORDER BY poll, reason
            ON CONFLICT (poll, reason) DO UPDATE SET count = total.count + excluded.count
        ), arrival AS MATERIALIZED (
            -- One time of arrival for the whole batch.
            SELECT date_trunc('milliseconds', clock_timestamp()) AS arrived_at
        ), kept AS (
            -- A second message of the same late vote is a duplicate.
            INSERT INTO late_votes
                (key, message_id, voter, cast_at, arrived_at, poll, contestant, count, place, ballot, message_tag, id_tag)
            SELECT key, message_id, voter, cast_at, arrived_at, poll, contestant, count, place, ballot, message_tag,
                CASE WHEN ballot IS NOT NULL THEN id_tag END
            FROM arrival CROSS JOIN new
            WHERE contestant IS NOT NULL
            ORDER BY poll, key, cast_at
            ON CONFLICT DO NOTHING
            RETURNING poll, count, arrived_at
        ), arrived AS (
            INSERT INTO late_arrivals AS seen (poll, votes, first_at, last_at)
            SELECT poll, sum(count), min(arrived_at), max(arrived_at) FROM kept GROUP BY poll ORDER BY poll
            ON CONFLICT (poll) DO UPDATE SET
                votes = seen.votes + excluded.votes, last_at = greatest(seen.last_at, excluded.last_at)
        ), changed AS (
            UPDATE polls SET edition = edition + 1 WHERE id IN (SELECT poll FROM kept)
        )
        SELECT array_agg(reason) INTO recorded_reasons FROM new;
    END IF;

    IF tally_polls IS NULL OR has_first_votes OR counted < cardinality(vote_keys) OR cardinality(rejected_messages) > 0 THEN
        SELECT array_agg(poll), array_agg(contestant), array_agg(votes)
        INTO tally_polls, tally_contestants, tally_votes
        FROM tallies WHERE poll = ANY (judged_polls);
    END IF;

    -- Under the tally lock, batches update these rows one after the other. A probe is decided once.
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

    -- The commit releases the locks before the batch is on disk: otherwise every other batch would wait for the disk
    -- at the tally lock. The flush barrier commits synchronously, and the log is written in order, so all earlier
    -- commits are then on disk, too. They include commits of other batches that made votes of this batch duplicates.
    -- So the barrier runs even if this batch inserted nothing.
    COMMIT;
    PERFORM mark_log();
END
$$;
