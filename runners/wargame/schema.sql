-- One file holds the runs of one experiment and its forks. A round is final once it is scored or void.
CREATE TABLE IF NOT EXISTS run(
  run_id TEXT PRIMARY KEY, settings_json TEXT NOT NULL, settings_hash TEXT NOT NULL, engine TEXT NOT NULL,
  base_url TEXT NOT NULL, created_utc TEXT NOT NULL, wanted INTEGER NOT NULL,
  state TEXT NOT NULL, detail TEXT NOT NULL, updated_utc TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS round(
  run_id TEXT NOT NULL REFERENCES run, idx INTEGER NOT NULL, pair INTEGER NOT NULL, label TEXT NOT NULL,
  category TEXT NOT NULL, family TEXT NOT NULL, split TEXT NOT NULL, canary TEXT NOT NULL,
  state TEXT NOT NULL CHECK(state IN ('scored','void','failed')), outcome TEXT NOT NULL,
  attempt INTEGER NOT NULL, duration_seconds REAL NOT NULL, ended_utc TEXT NOT NULL,
  PRIMARY KEY(run_id, idx)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS turn(
  run_id TEXT NOT NULL, idx INTEGER NOT NULL, number INTEGER NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY(run_id, idx, number), FOREIGN KEY(run_id, idx) REFERENCES round) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS call(
  run_id TEXT NOT NULL, idx INTEGER NOT NULL, attempt INTEGER NOT NULL, purpose TEXT NOT NULL,
  model TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL, status INTEGER NOT NULL,
  finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
  latency_seconds REAL NOT NULL, queue_seconds REAL NOT NULL, tries INTEGER NOT NULL, reply TEXT NOT NULL,
  PRIMARY KEY(run_id, idx, attempt, purpose), FOREIGN KEY(run_id, idx) REFERENCES round) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vote(
  run_id TEXT NOT NULL, idx INTEGER NOT NULL, role TEXT NOT NULL, model TEXT NOT NULL, weight REAL NOT NULL,
  kind TEXT NOT NULL, detail TEXT NOT NULL, confidence INTEGER, category TEXT, evidence_turn INTEGER, parser TEXT,
  PRIMARY KEY(run_id, idx, role), FOREIGN KEY(run_id, idx) REFERENCES round) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decision(
  run_id TEXT NOT NULL, idx INTEGER NOT NULL, rule TEXT NOT NULL, flagged INTEGER NOT NULL, score REAL NOT NULL,
  threshold REAL NOT NULL, voters INTEGER NOT NULL,
  PRIMARY KEY(run_id, idx, rule), FOREIGN KEY(run_id, idx) REFERENCES round) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event(
  id INTEGER PRIMARY KEY, run_id TEXT NOT NULL REFERENCES run, at_utc TEXT NOT NULL, kind TEXT NOT NULL,
  detail TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS event_run ON event(run_id, id);
-- A round that was begun and not ended: what the process that died was doing. `alone`: it was doing nothing else.
CREATE TABLE IF NOT EXISTS claim(
  run_id TEXT NOT NULL REFERENCES run, idx INTEGER NOT NULL, begun INTEGER NOT NULL, alone INTEGER NOT NULL,
  PRIMARY KEY(run_id, idx)) STRICT, WITHOUT ROWID;
-- Frozen conversations that every swarm must judge rightly, or the run's numbers mean nothing.
CREATE TABLE IF NOT EXISTS control(
  run_id TEXT NOT NULL REFERENCES run, at_round INTEGER NOT NULL, number INTEGER NOT NULL, label TEXT NOT NULL,
  flagged INTEGER, letters TEXT NOT NULL, PRIMARY KEY(run_id, at_round, number)) STRICT, WITHOUT ROWID;
-- What the teacher answered to a mistake of the swarm.
CREATE TABLE IF NOT EXISTS lesson(
  run_id TEXT NOT NULL, idx INTEGER NOT NULL, teacher TEXT NOT NULL, blind INTEGER NOT NULL, outcome TEXT NOT NULL,
  reply TEXT NOT NULL, PRIMARY KEY(run_id, idx, teacher), FOREIGN KEY(run_id, idx) REFERENCES round)
  STRICT, WITHOUT ROWID;
-- A person has read the transcript.
CREATE TABLE IF NOT EXISTS reading(
  run_id TEXT NOT NULL, idx INTEGER NOT NULL, at_utc TEXT NOT NULL, PRIMARY KEY(run_id, idx),
  FOREIGN KEY(run_id, idx) REFERENCES round) STRICT, WITHOUT ROWID;
