/*
 * options_manual.c - the options part of pgreserve.ini(5), from the option table.
 *
 * A key's type, default, range and whether a reload changes it come from the table, and its line of help unless the sentences below
 * say more.  `make manual` puts what this prints into man/pgreserve.ini.5 between its two marks; a test holds the two together.
 */
#include "config/options.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#define PAGE_COLUMNS 78

/* What a line of help is too short for.  Each sentence on a line of its own, as mdoc wants it. */
static const struct {
    enum option_section section;
    const char *key;
    const char *text;
} more[] = {
    {OPTION_PGRESERVE, "total_connections",
     "Hard cap over all connections to the upstream, those of a login or a farewell included.\nIt "
     "must be at least the sum of all reserved."},
    {OPTION_PGRESERVE, "max_clients", "Most clients over all listeners."},
    {OPTION_PGRESERVE, "log_level", "The least level that is logged."},
    {OPTION_PGRESERVE, "log_format",
     "Logfmt after the time and the level, or one JSON object a line."},
    {OPTION_PGRESERVE, "log_pool_events",
     "Log every connect, checkout, checkin, recycle and close of a connection to the upstream.\nA "
     "failed ping is always logged."},
    {OPTION_PGRESERVE, "shutdown_timeout",
     "How long TERM waits for transactions to end, and how long the old process of an upgrade "
     "lives "
     "on for those who cannot go over."},
    {OPTION_PGRESERVE, "upgrade_timeout",
     "How long the new process of an upgrade may take to say that it could serve, and then to "
     "answer.\nAfter that it is ended, and the old one serves on."},
    {OPTION_PGRESERVE, "gather_delay",
     "While six queries or more run at a time, and thousands a second, messages are gathered for "
     "at most this long, a third of a query's time, and dealt with together, which spares us, the "
     "server and the clients a waking for each.\nNow and then that is tried for a tenth of a "
     "second, and it goes on while it saves CPU time and either clearly more queries are answered, "
     "or no fewer and none the later, by their means over all pools and to 4 %.\n0, as any time "
     "below 25us, deals with each message as it comes: for who would rather have a quick query "
     "wait "
     "for nobody than be answered more of them."},
    {OPTION_PGRESERVE, "user",
     "When started as root: the user to run as once the listeners are open.\nThe configuration, "
     "the "
     "users file and the certificates are read again as that user on HUP.\nWithout it pgreserve "
     "runs "
     "on as root, and warns of it."},
    {OPTION_PGRESERVE, "core_dumps",
     "Whether a crash may leave a core behind.\nIt would hold every password that the process "
     "knows."},
    {OPTION_DATABASE, "url",
     "Where the database is: any libpq connection string, with several hosts, sslmode, service, "
     "target_session_attrs and so on."},
    {OPTION_DATABASE, "dbname", "The database's name there, whatever the url says."},
    {OPTION_DATABASE, "user", "Whom to log in as, whatever the url says."},
    {OPTION_DATABASE, "password", "The password for that, whatever the url says."},
    {OPTION_POOL, "listen",
     "Where the pool's clients connect to: HOST:PORT, [IPv6]:PORT, *:PORT for every address, or "
     "unix:DIRECTORY for a socket in that directory."},
    {OPTION_POOL, "mode",
     "How long a client keeps a connection: as long as it stays, for one transaction, or for one "
     "statement, where transactions of several statements are refused."},
    {OPTION_POOL, "size", "Connections that are kept open and ready, reopened when one dies."},
    {OPTION_POOL, "prefill",
     "Open them at start-up, for the database and user that the url names.\nConnections for others "
     "open when they are asked for."},
    {OPTION_POOL, "max_overflow",
     "Connections beyond size, opened only when somebody has waited for overflow_delay."},
    {OPTION_POOL, "overflow_delay",
     "How long somebody must have waited before a connection beyond size is opened."},
    {OPTION_POOL, "overflow_idle", "When an unused connection beyond size is closed."},
    {OPTION_POOL, "reserved",
     "Connections of the cap that no other pool may ever use.\nThey are kept open, even when that "
     "is "
     "more than size."},
    {OPTION_POOL, "timeout",
     "Longest wait for a connection.\nThen the client gets an error, SQLSTATE 53300, and stays "
     "connected; in session mode it is disconnected.\n0 waits for ever."},
    {OPTION_POOL, "recycle",
     "Age at which a free connection is replaced, up to a tenth earlier so that they do not all go "
     "at once.\n0 never does."},
    {OPTION_POOL, "pre_ping",
     "Ping free connections in the background, so that no client gets one that has died."},
    {OPTION_POOL, "pre_ping_idle",
     "How old a connection's last sign of life may be.\nWith 0 each one is pinged before every "
     "use, as SQLAlchemy does."},
    {OPTION_POOL, "wait_notice",
     "A client that has waited for so long gets one NOTICE that says how many are in use and how "
     "many wait before it.\n0 is off."},
    {OPTION_POOL, "login_burst", "Logins at the upstream that may be in progress at once."},
    {OPTION_POOL, "borrow",
     "A pool with reserved connections that needs more may take the place of an idle connection of "
     "a pool without any, up to its own max_overflow; never the other way round.\nThe longest idle "
     "one is closed when total_connections is used up and a client has waited for overflow_delay, "
     "one for each.\nThe place comes back when the connection beyond size has been unused for "
     "overflow_idle."},
    {OPTION_POOL, "connect_timeout",
     "Longest time for one login at the upstream, TLS and authentication included.\nOf several "
     "hosts each has its part of it, and then the others are tried."},
    {OPTION_POOL, "query_timeout",
     "A query that runs longer is cancelled, SQLSTATE 57014.\n0 is off."},
    {OPTION_POOL, "transaction_timeout",
     "A transaction that takes longer is rolled back and its client disconnected, SQLSTATE "
     "25P04.\n0 is off."},
    {OPTION_POOL, "idle_in_transaction_timeout",
     "A client that is idle in a transaction for longer is disconnected, SQLSTATE 25P03.\n0 is "
     "off."},
    {OPTION_POOL, "client_idle_timeout",
     "A client that is idle for longer is disconnected, SQLSTATE 57P05.\n0 is off."},
    {OPTION_POOL, "login_timeout", "Longest time that a client may take to log in."},
    {OPTION_POOL, "leak_warning",
     "A client that holds a connection for longer is logged once, with who, where from, since when "
     "and the first 1,024 bytes of its last query.\n0 is off."},
    {OPTION_POOL, "pin",
     "What happens to clients with state that cannot move to another connection, in transaction "
     "and statement mode: LISTEN, PREPARE, temporary objects, cursors WITH HOLD, session advisory "
     "locks, LOAD, SET ROLE, sequence values.\nallow keeps each on its connection while it has "
     "such state.\nA number does so for as many clients of the pool, and further ones get an "
     "error, SQLSTATE 53400.\ndeny refuses such statements, SQLSTATE 0A000."},
    {OPTION_POOL, "pin_recheck",
     "How long a client that is kept on its connection must have been idle before the server is "
     "asked whether anything is left.\nIt is also asked after statements such as UNLISTEN, "
     "DEALLOCATE, DROP and CLOSE."},
    {OPTION_POOL, "hidden_state",
     "After a call of a function that is not known to be harmless, ask the server what the session "
     "holds now, or ignore that.\nDO and CALL are asked about always."},
    {OPTION_POOL, "max_clients", "Most clients of this pool.\n0 is no limit but the global one."},
    {OPTION_POOL, "max_clients_per_user", "Most clients of one user.\n0 is no limit."},
    {OPTION_POOL, "max_clients_per_address", "Most clients from one address.\n0 is no limit."},
    {OPTION_POOL, "max_prepared_statements",
     "Protocol-level prepared statements on one connection, shared by all clients; the least "
     "recently used one goes first.\n0 shares none: a client with a named one stays on its "
     "connection."},
    {OPTION_POOL, "users", "Who may use this pool.\nEmpty is anyone."},
    {OPTION_POOL, "networks",
     "From where it may be used, as 10.0.0.0/8 and the like.\nEmpty is anywhere; unix sockets are "
     "always allowed."},
    {OPTION_POOL, "i_know_this_is_open",
     "Allows trust on an address that is not loopback: anyone who reaches the port is in."},
    {OPTION_ADMIN, "listen", "Where the console is, see\n.Xr pgreserve-console 7 ."},
    {OPTION_ADMIN, "http",
     "Where the page, /status, /metrics, /healthz and /readyz are.\nOn an address that is not "
     "loopback clients' addresses and queries are left out."},
    {OPTION_ADMIN, "users",
     "Who may do everything on the console.\nEmpty is the upstream's own user."},
    {OPTION_ADMIN, "stats_users", "Who may only SHOW."},
    {OPTION_ADMIN, "i_know_this_is_open",
     "Allows trust on an address that is not loopback: anyone who reaches the port is in."},
    {OPTION_AUTH, "method", "How clients prove who they are, when there is no hba_file."},
    {OPTION_AUTH, "users_file",
     "Who may log in, in the format of PgBouncer's userlist.txt: \"name\" \"secret\" a line.\nA "
     "secret is a password, an md5 hash or a SCRAM verifier, which\n.Ic pgreserve "
     "hash-password\nmakes.\nEmpty is the upstream's own user and password."},
    {OPTION_AUTH, "hba_file",
     "A file of rules in the format of PostgreSQL's pg_hba.conf, which say how clients prove who "
     "they are, in place of method.\nThe first line that fits a client's connection, address, "
     "database and user decides; who fits none is refused.\nThe methods are trust, reject, "
     "scram-sha-256, md5, password, cert and peer; the options are map, clientcert and "
     "clientname.\nNames that begin with a slash are regular expressions, @FILE and include are "
     "known; a line with the name of a host, a role's members (samerole, +role) or another method "
     "is an error.\ntrust for addresses beyond loopback wants i_know_this_is_open where pgreserve "
     "listens there.\nWhoever a line lets in must be among the users and networks of the pool "
     "too.\nThe console's database is pgreserve or pgbouncer; the daemon's own user gets into it "
     "by "
     "a unix socket whatever the lines say.\nHUP reads the file again; when anything in it is "
     "wrong, the old lines stay in force."},
    {OPTION_AUTH, "ident_file",
     "The maps that lines of hba_file name with map=, in the format of PostgreSQL's "
     "pg_ident.conf: which system user (peer) or name of a certificate (cert) may be which "
     "user.\nUnder the shipped systemd unit peer knows root and the daemon's own user alone, "
     "and refuses the others: PrivateUsers=no in the unit makes all of them known.\nExpressions "
     "behind a slash are POSIX's extended ones with \\ed and \\eD; \\e1 in the "
     "database user is what the first pair of parentheses took."},
    {OPTION_AUTH, "auth_query",
     "A query that gives the password of a user whom users_file does not know, as in PgBouncer: $1 "
     "is the name; two columns of "
     "text, the name and the secret, and one row or none.\nEmpty asks nobody.\nThe one to begin "
     "with, for a role that may read "
     "pg_authid, honours expiry:\n" PGBOUNCER_AUTH_QUERY
     ".\nA function with SECURITY DEFINER that auth_user may call shows that role less; name it "
     "with its schema, for search_path is pg_catalog; it is also where a query goes that is too "
     "long for a line.\nEach login asks, so that a changed password or a dropped role counts at "
     "once; clients who ask for one name share the question.\nWhat was answered last stands in "
     "only when the upstream does not "
     "answer within a second, for 10 seconds at most (2 for a name that it did not know).\nThe "
     "pool that the client came to pays: "
     "one of its connections asks, waits for its turn like a client, counts in size and in the "
     "cap, and is kept for half a minute "
     "after the last question.\nThe secret proves who the client is and logs in nowhere: the "
     "upstream is reached as the user that "
     "the url names.\nWho is nobody there meets a wrong password's answer; where it cannot be "
     "asked, or its answer makes no "
     "sense, the client is told that it failed, and the log why.\nThe console's users are not "
     "asked for."},
    {OPTION_AUTH, "auth_user",
     "The role that runs auth_query.\nIts password is what the url or users_file has, else what "
     "libpq finds (passfile)."},
    {OPTION_AUTH, "auth_dbname",
     "The database in which auth_query runs, at the upstream of the database that the client asks "
     "for.\nEmpty is that "
     "upstream's own, else postgres."},
    {OPTION_AUTH, "max_logins",
     "Connections that may be there without having logged in, at each door: that of the pools "
     "without "
     "a reservation, that of each reserved pool, that of the console.\nWho comes to a full door "
     "takes "
     "the place of a connection that has been silent for 3 seconds, or waits until there is "
     "room.\n0 "
     "is no limit."},
    {OPTION_AUTH, "max_failures",
     "Logins of one address that may fail within failure_window, at one door.\nThen it is refused "
     "at "
     "once, SQLSTATE 53300, until enough of them are forgiven.\nAn IPv6 network of 64 bits counts "
     "as "
     "one address.\n0 is no limit."},
    {OPTION_AUTH, "failure_window", "After what time a failed login is forgiven."},
    {OPTION_AUTH, "failure_exempt",
     "Addresses whose failures are not counted: many share this machine's own, and one with a "
     "wrong "
     "password must not keep out the others."},
    {OPTION_TLS, "client_mode",
     "What clients must speak, in the words of libpq's sslmode.\nverify-ca and verify-full demand "
     "a "
     "certificate that client_ca_file vouches for, and mean the same, as in PgBouncer; its name is "
     "compared with the user's by method = cert.\nWith any but disable, TLS may begin at once too: "
     "libpq's sslnegotiation=direct."},
    {OPTION_TLS, "client_cert_file",
     "Our certificate with its chain, PEM.\nHUP reads it and the other files again: new "
     "connections "
     "get what is new, old ones go on; when anything in them is wrong, the old ones stay."},
    {OPTION_TLS, "client_key_file", "Its key, PEM, without a pass phrase."},
    {OPTION_TLS, "client_crl_file", "Which of clients' certificates have been revoked, PEM."},
    {OPTION_TLS, "client_protocols", "tlsv1.2, tlsv1.3, or both, which is what secure means."},
    {OPTION_TLS, "client_ciphers",
     "OpenSSL's list of ciphers up to TLS 1.2; default is OpenSSL's own choice."},
    {OPTION_TLS, "client_tls13_ciphers",
     "OpenSSL's list of ciphers for TLS 1.3; empty is OpenSSL's own choice."},
    {OPTION_TLS, "client_ca_file", "Who signs clients' certificates, PEM."},
};

static const char *const titles[] = {
    [OPTION_PGRESERVE] = "pgreserve", [OPTION_DATABASE] = "database:NAME",
    [OPTION_POOL] = "pool:NAME",      [OPTION_ADMIN] = "admin",
    [OPTION_AUTH] = "auth",           [OPTION_TLS] = "tls"};

static const char *const introductions[] = {
    [OPTION_PGRESERVE] = "What holds for the whole.",
    [OPTION_DATABASE] = "Where a database is; [database:*] is for every other name, and what a "
                        "section leaves out or empty comes from there.\nUser and password come "
                        "together with the url: one of the section's own that names a user takes "
                        "neither from there, and to another server the password of [database:*] "
                        "never goes.",
    [OPTION_POOL] = ("A listener and the connections that its clients share.\nThere may be any "
                     "number of them."),
    [OPTION_ADMIN] = "For those who look after it.",
    [OPTION_AUTH] = "Who clients are.",
    [OPTION_TLS] = "TLS with clients; with the upstream it is the url's sslmode."};

bool options_manual_names(size_t index, enum option_section *section, const char **key)
{
    if (index >= sizeof(more) / sizeof(more[0]))
        return false;
    *section = more[index].section;
    *key = more[index].key;
    return true;
}

/* Filled to lines of a manual page's width; a line end stays one. */
static void print_text(FILE *out, const char *text)
{
    size_t column = 0;
    while (*text) {
        size_t length = strcspn(text, " \n");
        if (column > 0 && column + 1 + length > PAGE_COLUMNS) {
            fputc('\n', out);
            column = 0;
        }
        fprintf(out, "%s%.*s", column > 0 ? " " : "", (int)length, text);
        column += length + (column > 0);
        text += length;
        if (*text == '\n') {
            fputc('\n', out);
            column = 0;
        }
        text += *text != '\0';
    }
    fputc('\n', out);
}

static void print_meaning(FILE *out, const struct option *option)
{
    for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
        if (more[i].section == option->section && strcmp(more[i].key, option->key) == 0) {
            print_text(out, more[i].text);
            return;
        }
    }
    fprintf(out, "%c%s.\n", toupper((unsigned char)option->help[0]), option->help + 1);
}

static void print_choices(FILE *out, const struct option *option)
{
    for (size_t i = 0; option->choices[i]; i++)
        fprintf(out, "%s %s", i ? " |" : "", option->choices[i]);
}

static void print_type(FILE *out, const struct option *option)
{
    static const char *const names[] = {
        [OPTION_INT] = "number",        [OPTION_BOOL] = "on | off",
        [OPTION_DURATION] = "duration", [OPTION_TEXT] = "text",
        [OPTION_SECRET] = "text",       [OPTION_PIN] = "allow | deny | number",
        [OPTION_CHOICE] = NULL,         [OPTION_ADDRESSES] = "addresses",
        [OPTION_NAMES] = "names",       [OPTION_NETWORKS] = "networks"};
    fprintf(out, ".It Ic %s No =", option->key);
    if (option->choices)
        print_choices(out, option);
    else
        fprintf(out, " Ar %s", names[option->type]);
    fputc('\n', out);
}

static void print_option(FILE *out, const struct option *option)
{
    print_type(out, option);
    print_meaning(out, option);
    if (*option->def)
        fprintf(out, "The default is %s.\n", option->def);
    if (option->type == OPTION_INT)
        fprintf(out, "From %" PRId64 " to %" PRId64 ".\n", option->min, option->max);
    if (!option->is_changeable)
        fputs("A change needs a restart.\n", out);
}

void options_print_mdoc(FILE *out)
{
    int section = -1;
    for (size_t i = 0; i < option_count; i++) {
        if ((int)options[i].section != section) {
            if (section >= 0)
                fputs(".El\n", out);
            section = (int)options[i].section;
            fprintf(out, ".Ss [%s]\\&\n", titles[section]);
            print_text(out, introductions[section]);
            fputs(".Bl -tag -width Ds\n", out);
        }
        print_option(out, &options[i]);
    }
    fputs(".El\n", out);
}
