/*
 * test_sql.c - which statements tie a backend to its client, and which share it.
 *
 * A missed sign gives one client's settings, locks or temporary tables to another; a false one only costs
 * sharing, but on a common statement it costs all of it.  So the tables hold both kinds side by side.  Every
 * text is read three times: whole, cut in two at each place, and byte by byte.
 */
#include "proto/sql.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    NONE = 0,
    SET = SQL_SIGN_SET,
    LISTEN = SQL_SIGN_LISTEN,
    PREPARE = SQL_SIGN_PREPARE,
    TEMP = SQL_SIGN_TEMP,
    LOCK = SQL_SIGN_LOCK,
    HOLD = SQL_SIGN_HOLD,
    LOAD = SQL_SIGN_LOAD,
    SEQUENCE = SQL_SIGN_SEQUENCE,
    CODE = SQL_SIGN_CODE,
    DISCARD = SQL_SIGN_DISCARD,
    OTHER = SQL_SIGN_OTHER,
    TRANSACTION = SQL_SIGN_TRANSACTION,
    COARSE = ((SQL_SIGN_TRANSACTION << 1) - 1) | SQL_SIGN_CONFIG, /* what most tables are about */
    DEALLOCATE = SQL_SIGN_DEALLOCATE,
    ROLE = SQL_SIGN_ROLE,
    RESET = SQL_SIGN_RESET,
    CONFIG = SQL_SIGN_CONFIG,
    SPOIL = SQL_SIGN_SPOIL,
    FUNCTION = SQL_SIGN_FUNCTION,
    UNDO = SQL_SIGN_UNDO,
    STATEMENT = SQL_SIGN_STATEMENT,
    LOCAL_RESET = SQL_SIGN_LOCAL_RESET,
    LOCAL = SQL_SIGN_LOCAL,
    DEFAULTS = SQL_SIGN_DEFAULTS,
    LOOK = SQL_SIGN_LOOK,
    DATABASE = SQL_SIGN_DATABASE,
    EXECUTE = SQL_SIGN_STATEMENT | SQL_SIGN_EXECUTE,
    CREATE = SQL_SIGN_CREATE,
    NAMES = SQL_SIGN_NAMES,
    CURRVAL = SQL_SIGN_CURRVAL,
    INSERT = SQL_SIGN_INSERT | SQL_SIGN_WRITE,
    WRITE = SQL_SIGN_WRITE,
    TRIGGER = SQL_SIGN_TRIGGER
};

struct example {
    const char *text;
    uint32_t signs;
};

static const struct example settings[] = {
    {"SET search_path = x", SET},
    {"set search_path to x", SET},
    {"SeT DateStyle TO 'ISO'", SET},
    {"SET SESSION search_path = x", SET},
    {"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", SET},
    {"SET SESSION AUTHORIZATION bob", SET},
    {"SET ROLE bob", SET},
    {"SET TIME ZONE 'UTC'", SET},
    {"SET NAMES 'utf8'", SET},
    {"SET XML OPTION DOCUMENT", SET},
    {"SET my.app = '1'", SET},
    {"SET \"search_path\" = x", SET},
    {"SET \"local\" = x", SET},
    {"SET local.tenant = 'x'", SET},
    {"SET local . tenant TO 'x'", SET},
    {"SET transaction/* */.x = 1", SET},
    {"SET constraints.x = 1", SET},
    {"SET/**/x=1", SET},
    {"SET\nx\n=\n1", SET},
    {"SET\vx = 1", SET},
    {" \t\r\n SET x = 1 ;", SET},
    {"SELECT 1; SET x = 1", SET},
    {"SELECT 1;SET x=1;SELECT 2", SET},
    {";;;SET x = 1", SET},
    {"-- note\nSET x = 1", SET},
    {"-- note\rSET x = 1", SET},
    {"/* note */SET x = 1", SET},
    {"RESET ALL", SET},
    {"RESET search_path", SET},
    {"RESET ROLE", SET},
    {"SELECT set_config('a', 'b', false)", CONFIG},
    {"SELECT pg_catalog.set_config('a', 'b', false)", CONFIG},
    {"SELECT pg_catalog . set_config ('a', 'b', false)", CONFIG},
    {"SELECT \"set_config\"('a', 'b', false)", CONFIG},
    {"SELECT \"pg_catalog\".\"set_config\"('a', 'b', false)", CONFIG},
    {"select Set_Config('a', 'b', true)", CONFIG},
    {"select*from(select 1)x where 1=1or(set_config('a','b',false))=''", CONFIG},
    {"SELECT 1set_config", CONFIG},
    {"SELECT setseed(0.5)", SET},
    {"SELECT set_limit(0.4)", SET},
    {"UPDATE pg_settings SET setting = '1' WHERE name = 'x'", SET},
    {"UPDATE pg_catalog.\"pg_settings\" SET setting = '1' WHERE name = 'x'", SET},
    {"SELECT setting FROM pg_settings WHERE name = 'x'", NONE},
    {"SET work_mem = '7MB'; SELECT set_config('a', 'b', true)", SET | CONFIG},
    {"EXPLAIN ANALYZE SELECT set_config('a', 'b', false)", CONFIG},
    {"COPY (SELECT set_config('a', 'b', false)) TO STDOUT", CONFIG},
    {"WITH x AS (SELECT set_config('a', 'b', false)) SELECT * FROM x", CONFIG},
    {"(SELECT set_config('a', 'b', false))", CONFIG},
    {"SET LOCAL x = 1; SET x = 1", SET},
    {"SET LOCAL search_path = x", NONE},
    {"SET LOCAL my.app = '1'", NONE},
    {"SET LOCAL ROLE bob", NONE},
    {"set local\tx to default", NONE},
    {"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", NONE},
    {"SET TRANSACTION SNAPSHOT '00000003-0000001B-1'", NONE},
    {"SET CONSTRAINTS ALL DEFERRED", NONE},
    {"SET CONSTRAINTS s.c IMMEDIATE", NONE},
    {"UPDATE t SET a = 1", NONE},
    {"UPDATE t SET reset = 1 WHERE load = 2", NONE},
    {"INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 1", NONE},
    {"ALTER ROLE x SET search_path = y", NONE},
    {"ALTER DATABASE x SET y = 1", NONE},
    {"ALTER TABLE t ALTER c SET NOT NULL", NONE},
    {"ALTER SYSTEM RESET ALL", NONE},
    {"CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = x AS 'select 1'", NONE},
    {"CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ SET x = 1 $$", NONE},
    {"CREATE PROCEDURE p() LANGUAGE plpgsql AS $b$ begin set x = 1; listen y; end $b$", NONE},
    {"SELECT \"SET_CONFIG\"('a')", NONE},
    {"SELECT set_config_of_mine()", NONE},
    {"SELECT my_set_config()", NONE},
    {"SELECT 'set_config'", NONE},
    {"SHOW search_path", NONE},
    {"SELECT current_setting('x')", NONE},
    {"SELECT a FROM \"set\" WHERE \"reset\" = 1", NONE},
};

static const struct example statements[] = {
    {"", NONE},
    {";", NONE},
    {" ", NONE},
    {"SELECT 1", NONE},
    {"SELECT abalance FROM pgbench_accounts WHERE aid = 12345;", NONE},
    {"INSERT INTO t (a, b) VALUES ($1, $2) RETURNING id", NONE},
    {"DELETE FROM t WHERE a = ANY($1::int[])", NONE},
    {"TABLE t", NONE},
    {"VALUES (1), (2)", NONE},
    {"VACUUM ANALYZE t", NONE},
    {"NOTIFY x, 'y'", NONE},
    {"SELECT pg_notify('x', 'y')", NONE},
    {"SECURITY LABEL FOR x ON TABLE t IS 'y'", NONE},
    {"IMPORT FOREIGN SCHEMA s FROM SERVER x INTO y", NONE},
    {"SAVEPOINT x", NONE},
    {"ROLLBACK TO x", NONE},
    {"COPY t FROM STDIN", NONE},
    {"FETCH 10 FROM c", NONE},
    {"LISTEN x", LISTEN},
    {"listen \"X y\"", LISTEN},
    {"SELECT 1; LISTEN x;", LISTEN},
    {"UNLISTEN *", NONE},
    {"SELECT listen FROM listen", NONE},
    {"PREPARE p AS SELECT 1", PREPARE},
    {"PREPARE \"p\" (int) AS SELECT $1", PREPARE},
    {"PREPARE transaction AS SELECT 1", PREPARE},
    {"PREPARE transaction (int) AS SELECT $1", PREPARE},
    {"PREPARE p AS SELECT nextval('s')", PREPARE | SEQUENCE},
    {"PREPARE TRANSACTION 'x'", NONE},
    {"prepare/**/transaction E'it''s'", NONE},
    {"COMMIT PREPARED 'x'", NONE},
    {"ROLLBACK PREPARED 'x'", NONE},
    {"EXECUTE p", NONE},
    {"EXPLAIN ANALYZE EXECUTE p(1)", NONE},
    {"CREATE TABLE t AS EXECUTE p", NONE},
    {"DEALLOCATE p", NONE},
    {"DEALLOCATE PREPARE p", NONE},
    {"DECLARE c CURSOR WITH HOLD FOR SELECT 1", HOLD},
    {"declare c binary insensitive no scroll cursor with\n--x\nhold for select 1", HOLD},
    {"DECLARE c CURSOR FOR SELECT 1", NONE},
    {"DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", NONE},
    {"DECLARE hold CURSOR FOR WITH hold AS (SELECT 1) SELECT * FROM hold", NONE},
    {"DECLARE c CURSOR FOR SELECT set_config('a', 'b', false)", CONFIG},
    {"SELECT 1; DECLARE \"c\" SCROLL CURSOR WITH HOLD FOR SELECT 1", HOLD},
    {"WITH hold AS (SELECT 1) SELECT * FROM hold", NONE},
    {"CLOSE c", NONE},
    {"CLOSE ALL", NONE},
    {"LOAD 'auto_explain'", LOAD},
    {"SELECT load FROM t", NONE},
    {"DO $$ BEGIN PERFORM 1; END $$", CODE},
    {"do language plpgsql 'begin end'", CODE},
    {"DO $x$begin listen y; end$x$", CODE},
    {"CALL p(1)", CODE},
    {"SELECT call FROM t", NONE},
    {"CREATE RULE r AS ON INSERT TO t DO ALSO NOTIFY x", NONE},
    {"DISCARD ALL", DISCARD},
    {"DISCARD TEMP", DISCARD},
    {"DISCARD PLANS", DISCARD},
    {"BEGIN", TRANSACTION},
    {"begin;", TRANSACTION},
    {"BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", TRANSACTION},
    {"START TRANSACTION", TRANSACTION},
    {"BEGIN; SET LOCAL x = 1; COMMIT", TRANSACTION},
    {"BEGIN; SET x = 1; LISTEN y; COMMIT", TRANSACTION | SET | LISTEN},
    {"COMMIT AND CHAIN", TRANSACTION},
    {"ROLLBACK WORK AND CHAIN", TRANSACTION},
    {"END TRANSACTION AND CHAIN", TRANSACTION},
    {"ABORT AND CHAIN", TRANSACTION},
    {"COMMIT AND NO CHAIN", NONE},
    {"COMMIT", NONE},
    {"END", NONE},
    {"ROLLBACK", NONE},
    {"SELECT chain, no FROM t", NONE},
    {"SELECT 'BEGIN'", NONE},
    {"SELECT CASE WHEN a THEN 1 END", NONE},
};

static const struct example temporary[] = {
    {"CREATE TEMP TABLE x (a int)", TEMP},
    {"create temporary table x (a int)", TEMP},
    {"CREATE LOCAL TEMP TABLE x (a int)", TEMP},
    {"CREATE GLOBAL TEMPORARY TABLE x (a int)", TEMP},
    {"CREATE TEMP TABLE x AS SELECT 1", TEMP},
    {"CREATE OR REPLACE TEMP VIEW v AS SELECT 1", TEMP},
    {"CREATE OR REPLACE TEMPORARY RECURSIVE VIEW v (a) AS SELECT 1", TEMP},
    {"CREATE TEMPORARY SEQUENCE s", TEMP},
    {"CREATE/**/TEMP--\nTABLE x (a int)", TEMP},
    {"CREATE SCHEMA s CREATE TEMP TABLE x (a int)", TEMP},
    {"EXPLAIN ANALYZE CREATE TEMP TABLE x AS SELECT 1", TEMP},
    {"SELECT 1 AS a INTO TEMP x", TEMP},
    {"SELECT a INTO TEMPORARY TABLE x FROM t", TEMP},
    {"SELECT a INTO LOCAL TEMP x FROM t", TEMP},
    {"WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT a INTO TEMP y FROM x", TEMP},
    {"CREATE TABLE pg_temp.x (a int)", TEMP},
    {"CREATE TABLE \"pg_temp\".x (a int)", TEMP},
    {"CREATE FUNCTION PG_TEMP.f() RETURNS int LANGUAGE sql AS 'select 1'", TEMP},
    {"SELECT * FROM pg_temp_3.x", TEMP},
    {"DROP TABLE pg_temp.x", TEMP},
    {"CREATE TABLE \"PG_TEMP\".x (a int)", NONE},
    {"CREATE TABLE temp (a int)", NONE},
    {"CREATE TABLE s.temp (temp int)", NONE},
    {"CREATE INDEX temp ON t (a)", NONE},
    {"CREATE UNLOGGED TABLE t (temp int)", NONE},
    {"SELECT temp FROM t", NONE},
    {"SELECT a, temp FROM temp", NONE},
    {"UPDATE x SET temp = 1", NONE},
    {"INSERT INTO temp VALUES (1)", NONE},
    {"INSERT INTO temp (a) SELECT temp FROM t", NONE},
    {"MERGE INTO temp USING t ON true WHEN MATCHED THEN DELETE", NONE},
    {"SELECT replace(temp, 'a', 'b') FROM t", NONE},
    {"GRANT CREATE, TEMP ON DATABASE d TO x", NONE},
    {"DROP TABLE temp", NONE},
    {"SELECT a INTO x FROM temp", NONE},
    {"CREATE TABLE \"temp\" (a int)", NONE},
    {"CREATE \"temp\"", NONE},
    {"SELECT tmp_pg_temp FROM t", NONE},
    {"SELECT temperature, temporary_id FROM t", NONE},
};

static const struct example names[] = {
    {"SELECT pg_advisory_lock(1)", LOCK},
    {"SELECT pg_advisory_lock_shared(1, 2)", LOCK},
    {"SELECT pg_try_advisory_lock(1)", LOCK},
    {"SELECT pg_catalog.pg_try_advisory_lock_shared(1)", LOCK},
    {"SELECT \"pg_advisory_lock\"(1)", LOCK},
    {"SELECT PG_ADVISORY_LOCK(1)", LOCK},
    {"SELECT pg_advisory_xact_lock(1)", NONE},
    {"SELECT pg_try_advisory_xact_lock_shared(1)", NONE},
    {"SELECT pg_advisory_unlock(1)", NONE},
    {"SELECT pg_advisory_unlock_all()", NONE},
    {"LOCK TABLE t", NONE},
    {"INSERT INTO t VALUES (nextval('s'))", SEQUENCE},
    {"SELECT currval('s'), 1", SEQUENCE},
    {"SELECT lastval()", SEQUENCE},
    {"SELECT setval('s', 1)", SEQUENCE},
    {"SELECT \"nextval\"('s')", SEQUENCE},
    {"SELECT last_value FROM s", NONE},
    {"SELECT \"NextVal\"('s')", NONE},
    {"SELECT dblink_connect('c', 'dbname=x')", OTHER},
    {"SELECT dblink_connect_u('dbname=x')", OTHER},
    {"SELECT dblink('dbname=x', 'select 1')", NONE},
    {"SELECT pg_create_logical_replication_slot('a', 'b', true)", OTHER},
    {"SELECT pg_create_physical_replication_slot('a', true, true)", OTHER},
    {"SELECT pg_copy_logical_replication_slot('a', 'b', true)", OTHER},
    {"SELECT pg_replication_origin_session_setup('x')", OTHER},
    {"SELECT pg_backup_start('x')", OTHER},
    {"SELECT hypopg_create_index('create index on t (a)')", OTHER},
    {"SELECT dbms_output.enable()", OTHER},
    {"SELECT lo_create(0)", NONE},
    {"SELECT pg_sleep(1), pg_backend_pid()", NONE},
    {"SELECT nextval\xc3\xa9('s')", NONE},
    {"SELECT \xc3\xa9nextval('s')", NONE},
    {"SELECT nextval$('s')", NONE},
    {"SELECT \"\", \"next\"\"val\"", NONE},
    {"SELECT \"a b;SET x\".c", NONE},
    {"SELECT pg_advisory_lock_with_a_name_that_is_longer_than_any_buffer_of_ours(1)", LOCK},
    {"SELECT a234567890123456789012345678901234567890123456789setval(1)", NONE},
    {"SELECT U&\"set_config\"('a', 'b', false)", CONFIG},
    {"SELECT u&\"s\\0065t_config\"('a', 'b', false)", OTHER},
    {"SELECT U&\"s!0065t_config\" UESCAPE '!' ('a', 'b', false)", OTHER},
    {"SELECT U&'\\0041', U&\"a\" FROM t", NONE},
    {"SELECT U&'!0041' UESCAPE '!'", NONE},
    {"SELECT u & \"a\\b\" FROM t", NONE},
    {"SELECT \"a\\b\" FROM t", NONE},
    {"SELECT u&nextval('s')", SEQUENCE},
};

static const struct example literals[] = {
    {"SELECT ';SET x = 1'", NONE},
    {"SELECT 'it''s; SET x = 1; '''", NONE},
    {"SELECT 'a' 'b'; SET x = 1", SET},
    {"SELECT ''; SET x = 1; --'", SET},
    {"SELECT '--'; SET x = 1", SET},
    {"SELECT '/*'; SET x = 1", SET},
    {"SELECT 'C:\\dir\\file; LISTEN x'", NONE},
    {"SELECT '\\'", OTHER},
    {"SELECT '\\'; SET x = 1", OTHER | SET},
    {"SELECT '\\'';SET x = 1;--'", OTHER},
    {"SELECT E'it\\'s; SET x = 1'", NONE},
    {"SELECT e'it''s\\\\'; SET x = 1", SET},
    {"SELECT E'\\\\\\'; SET x = 1; '", NONE},
    {"SELECT E'a''\\'; LISTEN x; '", NONE},
    {"SELECT E''; SET x = 1", SET},
    {"SELECT E'a'\n'\\'; SET x = 1; '", SET | OTHER},
    {"SELECT E'caf\xc3\xa9\\n'", NONE},
    {"SELECT E'\x83\\'; SET x = 1; '", OTHER},
    {"SELECT E'\x83\\\\\\'; SET x = 1; '", OTHER},
    {"SELECT E'\xc3\xa9'; SET x = 1", SET},
    {"SELECT 1 AS \x83\\$a$; SET x = 1", OTHER},
    {"SELECT note'x'; SET x = 1", SET},
    {"SELECT fooE'\\'", OTHER},
    {"SELECT N'a; SET x = 1', B'01', X'1F'", NONE},
    {"SELECT e, n, b, x, u FROM t", NONE},
    {"SELECT DATE '2024-01-01'; LISTEN x", LISTEN},
    {"SELECT $$;SET x = 1;$$", NONE},
    {"SELECT $a$;SET x = 1;$a$", NONE},
    {"SELECT $a$ $b$;SET x = 1;$b$ $a$", NONE},
    {"SELECT $a$ $A$;SET x = 1;$a$", NONE},
    {"SELECT $a$ $ab$;SET x = 1;$a $$a$", NONE},
    {"SELECT $a$x$a$; SET x = 1", SET},
    {"SELECT $$'$$; SET x = 1; --'", SET},
    {"SELECT $$$; SET x = 1 $$", NONE},
    {"SELECT $a$$a$; SET x = 1", SET},
    {"SELECT $a$$$a$; SET x = 1", SET},
    {"SELECT $\xc3\xa9_1$;SET x = 1;$\xc3\xa9_1$", NONE},
    {"SELECT $1; SET x = $1", SET},
    {"SELECT $1,$2; LISTEN x; SELECT $1,$2", LISTEN},
    {"SELECT a$b$; SET x = 1; SELECT a$b$", SET},
    {"SELECT 1$$;SET x = 1;$$", NONE},
    {"SELECT $1$$;SET x = 1;$$", NONE},
    {"SELECT $a; SET x = 1", SET},
    {"SELECT 1 -- ; SET x = 1", NONE},
    {"SELECT 1 --' \n; SET x = 1", SET},
    {"SELECT 1 - -1; SET x = 1", SET},
    {"SELECT 1---1; SET x = 1", NONE},
    {"SELECT 1 /* ; SET x = 1 */", NONE},
    {"SELECT 1 /* /* */ ; SET x = 1 */", NONE},
    {"SELECT 1 /* /* */ */; SET x = 1", SET},
    {"SELECT 1 /*/ ; SET x = 1 */", NONE},
    {"SELECT 1 /**/; SET x = 1", SET},
    {"SELECT 1 /***/; SET x = 1", SET},
    {"SELECT 1 /* **/; SET x = 1", SET},
    {"SELECT 1 /*//* */ ; SET x = 1 */", NONE},
    {"SELECT 1 /* ' */; SET x = 1; --'", SET},
    {"SELECT 1 /* -- */; SET x = 1", SET},
    {"SELECT 1 -- /*\n; SET x = 1", SET},
    {"SELECT 2 */*; SET x = 1*/ 3", NONE},
    {"SELECT 2 / 3; SET x = 1", SET},
    {"SELECT '", NONE},
    {"SELECT \"nextval", NONE},
    {"SELECT nextval", SEQUENCE},
    {"SELECT \"nextval\"", SEQUENCE},
};

/* All signs of each, the finer ones too. */
static const struct example finer[] = {
    {"SET ROLE bob", SET | ROLE},
    {"SET SESSION ROLE bob", SET | ROLE},
    {"SET SESSION AUTHORIZATION bob", SET | ROLE},
    {"RESET ROLE", SET | ROLE | RESET},
    {"RESET SESSION AUTHORIZATION", SET | ROLE | RESET},
    {"SET LOCAL ROLE bob", LOCAL},
    {"SET local.x = 1", SET | LOCAL}, /* not known in time */
    {"SELECT role FROM t", NONE},
    {"RESET ALL", SET | RESET},
    {"SET x TO DEFAULT", SET | RESET},
    {"ALTER ROLE bob SET work_mem = 1", DEFAULTS},
    {"ALTER USER ALL IN DATABASE app RESET ALL", DEFAULTS},
    {"ALTER DATABASE app SET search_path TO DEFAULT", DEFAULTS | SQL_SIGN_DATABASE},
    {"ALTER DATABASE app RENAME TO other", SQL_SIGN_DATABASE},
    {"ALTER ROLE bob LOGIN", NONE},
    {"ALTER TABLE role SET (fillfactor = 70)", NONE},
    {"SET LOCAL x TO DEFAULT", LOCAL | LOCAL_RESET},
    {"SET LOCAL TIME ZONE LOCAL", LOCAL | LOCAL_RESET},
    {"SET LOCAL my.x TO DEFAULT", LOCAL | LOCAL_RESET},
    {"SET LOCAL x = 1; INSERT INTO t VALUES (DEFAULT)", LOCAL | INSERT},
    {"SET TIME ZONE LOCAL", SET | RESET},
    {"SET TIME ZONE 'UTC'", SET},
    {"INSERT INTO t VALUES (DEFAULT)", INSERT},
    {"DISCARD TEMP", DISCARD | RESET},
    {"SELECT set_config('a', 'b', true)", CONFIG},
    {"SELECT setseed(0)", SET | SPOIL},
    {"SET seed = 0.5", SET | SPOIL},
    {"SET SESSION Seed TO 0.5", SET | SPOIL},
    {"SET LOCAL seed = 0.5", LOCAL | SET | SPOIL},
    {"SET search_path = seed", SET},
    {"SELECT seed FROM t", NONE},
    {"SELECT current_setting('my.x')", NAMES},
    {"SELECT currval('s'), lastval()", SEQUENCE | CURRVAL},
    {"SELECT setval('s', 1)", SEQUENCE},
    {"UNLISTEN *", UNDO},
    {"CLOSE ALL", UNDO},
    {"DROP TABLE t", UNDO},
    {"DEALLOCATE x", DEALLOCATE | UNDO | STATEMENT},
    {"DEALLOCATE PREPARE \"all\"", DEALLOCATE | UNDO | STATEMENT},
    {"DEALLOCATE ALL", DEALLOCATE | UNDO},
    {"DEALLOCATE PREPARE ALL", DEALLOCATE | UNDO | STATEMENT}, /* its name may be PREPARE */
    {"DEALLOCATE prepare", DEALLOCATE | UNDO | STATEMENT},
    {"EXECUTE p(1)", EXECUTE | FUNCTION},
    {"EXPLAIN EXECUTE p", EXECUTE},
    {"EXPLAIN (ANALYZE, COSTS off) EXECUTE p", EXECUTE | FUNCTION},
    {"CREATE TABLE t AS EXECUTE p", EXECUTE | CREATE},
    {"EXPLAIN ANALYZE CREATE TABLE t AS EXECUTE p", EXECUTE | CREATE},
    {"CREATE TABLE t AS SELECT 1", CREATE},
    {"CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS ''", CREATE | FUNCTION},
    {"SELECT a INTO x FROM t", CREATE},
    {"INSERT INTO t SELECT a FROM x", INSERT},
    {"DROP TABLE t", UNDO},
    {"SELECT dblink_connect('x')", OTHER | SPOIL | FUNCTION},
    {"SELECT pg_create_physical_replication_slot('x', false, true)", OTHER | SPOIL | FUNCTION},
    {"GRANT EXECUTE ON FUNCTION f TO bob", NONE},
    {"EXPLAIN SELECT 1; GRANT EXECUTE ON FUNCTION f TO bob", NONE},
    {"PREPARE p AS SELECT 1", PREPARE | STATEMENT},
    {"PREPARE TRANSACTION 'x'", NONE},
    {"SELECT pg_advisory_unlock_all()", UNDO},
    {"SELECT * FROM pg_prepared_statements", LOOK},
    {"SELECT * FROM pg_catalog.pg_prepared_statement()", LOOK},
    {"DROP DATABASE x", DATABASE | UNDO},
    {"CREATE DATABASE x TEMPLATE y", DATABASE},
    {"ALTER DATABASE x RENAME TO y", DATABASE},
    {"CREATE TABLE database (a int)", CREATE},
    {"CREATE TABLE IF NOT EXISTS t (a int)", CREATE | FUNCTION}, /* a question too many */
    /* what is called */
    {"SELECT f()", FUNCTION},
    {"SELECT f ()", FUNCTION},
    {"SELECT f/**/()", FUNCTION},
    {"SELECT \"f\"()", FUNCTION},
    {"SELECT \"lower\"('A')", FUNCTION},
    {"SELECT s.f()", FUNCTION},
    {"SELECT s.lower('A')", FUNCTION},
    {"SELECT pg_catalog.lower('A')", NONE},
    {"SELECT pg_catalog . lower ('A')", NONE},
    {"SELECT * FROM f() AS t(a, b)", FUNCTION},
    {"SELECT a FROM generate_series(1, 3) AS t(a)", NONE},
    {"SELECT count(*), sum(a), lower(b), now() FROM t WHERE c IN (1, 2) AND (d OR e)", NONE},
    {"SELECT a::numeric(10, 2), CAST(b AS varchar(3)), EXTRACT(year FROM c) FROM t", NONE},
    {"INSERT INTO t (a, b) VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET b = 3", INSERT},
    {"INSERT INTO s.t (a, b) VALUES (1, 2)", INSERT},
    {"INSERT INTO \"T\" (a) SELECT f(1)", INSERT | FUNCTION},
    {"WITH x (a) AS (SELECT 1) SELECT * FROM x", NONE},
    {"WITH RECURSIVE x (a) AS (SELECT 1) SELECT * FROM x", NONE},
    {"COPY t (a, b) FROM STDIN", INSERT},
    {"COPY s.t (a, b) FROM STDIN", INSERT},
    {"SELECT 'f(' || '()'", NONE},
    {"SELECT a FROM t WHERE EXISTS (SELECT 1)", NONE},
    {"SELECT rank() OVER (PARTITION BY a) FROM t", NONE},
    {"UPDATE t SET (a, b) = (1, 2)", WRITE},
    {"WITH x AS (DELETE FROM t RETURNING a) SELECT * FROM x", WRITE},
    {"TRUNCATE t", WRITE},
    {"CREATE TRIGGER x BEFORE INSERT ON t EXECUTE FUNCTION f()",
     CREATE | TRIGGER | INSERT | FUNCTION},
    {"SELECT averyveryverylongnameofafunctionthatislongerthanfifty()", FUNCTION},
};

static uint32_t signs_in_pieces(const char *text, size_t length, size_t first, size_t then)
{
    struct sql_scan scan;
    size_t at = 0;

    sql_scan_start(&scan);
    while (at < length) {
        size_t piece = at == 0 && first > 0 ? first : then;

        if (piece > length - at)
            piece = length - at;
        /* A copy of the piece's own size, so that reading beyond it is seen. */
        uint8_t *copy = malloc(piece);
        assert_non_null(copy);
        memcpy(copy, text + at, piece);
        sql_scan_feed(&scan, copy, piece);
        sql_scan_feed(&scan, NULL, 0);
        free(copy);
        at += piece;
    }
    return sql_scan_finish(&scan);
}

static int example_failures(const struct example *example, uint32_t asked)
{
    size_t length = strlen(example->text);
    uint32_t signs = sql_signs(example->text, length);
    int failures = 0;

    if ((signs & asked) != example->signs) {
        print_error("%s\n  is 0x%x, not 0x%x\n", example->text, signs, example->signs);
        failures++;
    }
    for (size_t cut = 0; cut <= length; cut++) {
        uint32_t cut_signs = signs_in_pieces(example->text, length, cut, cut == 0 ? 1 : length);
        if (cut_signs != signs) {
            print_error("%s\n  cut at %zu is 0x%x, not 0x%x\n", example->text, cut, cut_signs,
                        signs);
            failures++;
        }
    }
    return failures;
}

static void check_examples(const struct example *examples, size_t count, uint32_t asked)
{
    int failures = 0;

    for (size_t i = 0; i < count; i++)
        failures += example_failures(&examples[i], asked);
    assert_int_equal(failures, 0);
}

#define CHECK_EXAMPLES(table) check_examples(table, sizeof(table) / sizeof((table)[0]), COARSE)

static void test_settings_tie_unless_local(void **state)
{
    (void)state;
    CHECK_EXAMPLES(settings);
}

static void test_first_word_says_what_a_statement_makes(void **state)
{
    (void)state;
    CHECK_EXAMPLES(statements);
}

static void test_temporary_things_are_told_from_things_named_temp(void **state)
{
    (void)state;
    CHECK_EXAMPLES(temporary);
}

static void test_names_count_wherever_they_stand(void **state)
{
    (void)state;
    CHECK_EXAMPLES(names);
}

static void test_literals_and_comments_are_not_read_as_statements(void **state)
{
    (void)state;
    CHECK_EXAMPLES(literals);
}

static void test_finer_signs_say_what_is_set_called_and_undone(void **state)
{
    (void)state;
    check_examples(finer, sizeof(finer) / sizeof(finer[0]), UINT32_MAX);
}

/* The tag does not fit the buffer, so its body is read: more signs than there are, never fewer. */
static void test_long_dollar_tag_is_doubted(void **state)
{
    char text[400];
    char tag[101];

    (void)state;
    memset(tag, 't', sizeof(tag) - 1);
    for (size_t length = 60; length < sizeof(tag); length++) {
        int written = snprintf(text, sizeof(text), "SELECT $%.*s$ ;LISTEN x $%.*s$; SET y = 1",
                               (int)length, tag, (int)length, tag);
        uint32_t signs = sql_signs(text, (size_t)written);
        assert_int_equal(signs, length <= 64 ? SET : SET | LISTEN | OTHER);
    }
}

static void test_deep_comments_are_counted(void **state)
{
    struct sql_scan scan;

    (void)state;
    sql_scan_start(&scan);
    for (int i = 0; i < 70000; i++)
        sql_scan_feed(&scan, (const uint8_t *)"/*", 2);
    for (int i = 0; i < 69999; i++)
        sql_scan_feed(&scan, (const uint8_t *)";SET x=1;*/", 11);
    assert_int_equal(sql_scan_finish(&scan), NONE);
    sql_scan_feed(&scan, (const uint8_t *)"*/;SET x=1", 10);
    assert_int_equal(sql_scan_finish(&scan), SET);
}

static void test_a_started_scan_knows_nothing_of_the_last(void **state)
{
    static const char *const unfinished[] = {"SET",  "'",  "E'\\", "\"",
                                             "U&\"", "/*", "$a$",  "CREATE"};
    struct sql_scan scan;

    (void)state;
    for (size_t i = 0; i < sizeof(unfinished) / sizeof(unfinished[0]); i++) {
        sql_scan_start(&scan);
        sql_scan_feed(&scan, (const uint8_t *)unfinished[i], strlen(unfinished[i]));
        sql_scan_start(&scan);
        sql_scan_feed(&scan, (const uint8_t *)"temp uescape", 12);
        assert_int_equal(sql_scan_finish(&scan), NONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings_tie_unless_local),
        cmocka_unit_test(test_finer_signs_say_what_is_set_called_and_undone),
        cmocka_unit_test(test_first_word_says_what_a_statement_makes),
        cmocka_unit_test(test_temporary_things_are_told_from_things_named_temp),
        cmocka_unit_test(test_names_count_wherever_they_stand),
        cmocka_unit_test(test_literals_and_comments_are_not_read_as_statements),
        cmocka_unit_test(test_long_dollar_tag_is_doubted),
        cmocka_unit_test(test_deep_comments_are_counted),
        cmocka_unit_test(test_a_started_scan_knows_nothing_of_the_last),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
