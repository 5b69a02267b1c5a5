-- The names in src/proto/sql_functions.c: PostgreSQL's own functions whose calls leave nothing behind in a session.
--     psql -AtX -f scripts/known_functions.sql
-- Immutable and stable ones cannot; of the volatile ones those that are named here do not, or have a sign of their own in
-- src/proto/sql_words.c.  What runs a query that it is given (query_to_xml, ts_stat) is left out, and so is
-- what nobody calls by name (input, output and support functions, operators).
SELECT DISTINCT proname
FROM pg_catalog.pg_proc AS p
WHERE pronamespace = 'pg_catalog'::regnamespace
  AND proname !~ '_to_xml|^ts_stat$|^ts_rewrite$|^binary_upgrade|^RI_FKey|_handler$|^pg_isolation'
  AND (provolatile <> 'v'
       OR proname ~ '^(lo_|pg_stat_|pg_ls_|pg_read_|pg_wal_|pg_last_|pg_current_|pg_sleep|pg_advisory_|pg_try_advisory_|txid_)'
       OR proname ~ '^pg_[a-z_]+_size$'
       OR proname IN ('clock_timestamp', 'current_query', 'currval', 'gen_random_uuid', 'lastval', 'loread', 'lowrite',
                      'nextval', 'pg_blocking_pids', 'pg_cancel_backend', 'pg_export_snapshot', 'pg_is_in_recovery',
                      'pg_lock_status', 'pg_notify', 'pg_partition_ancestors', 'pg_partition_tree', 'pg_reload_conf',
                      'pg_rotate_logfile', 'pg_sequence_last_value', 'pg_switch_wal', 'pg_terminate_backend',
                      'pg_xact_status', 'random', 'set_config', 'setseed', 'setval', 'timeofday'))
  AND 'internal'::regtype <> ALL (proargtypes::oid[])
  AND 'cstring'::regtype <> ALL (proargtypes::oid[])
  AND prorettype <> ALL ('{internal,cstring,trigger,event_trigger,language_handler,index_am_handler,table_am_handler}'::regtype[])
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_operator AS o WHERE p.oid IN (o.oprcode, o.oprrest, o.oprjoin))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_type AS t
                  WHERE p.oid IN (t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout))
ORDER BY 1;
