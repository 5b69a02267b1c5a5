/*
 * proxy.h - the context that everything shares, and the things in it.
 *
 * One process, one loop, one `struct proxy` handed down explicitly.  A client and a server (a backend, the upstream
 * side) are linked while a transaction runs; each points to the other and to nothing else of it.  Objects whose life
 * has ended are unlinked at once and freed at the end of the loop's turn (proxy_bury), because events on them may be
 * active already.
 */
#ifndef PROXY_PROXY_H
#define PROXY_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include <netinet/in.h>

#include <event2/event.h>
#include <event2/event_struct.h>
#include <libpq-fe.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/hash.h"
#include "config/config.h"
#include "config/rules.h"
#include "config/users.h"
#include "net/hosts.h"
#include "net/inherit.h"
#include "net/notify.h"
#include "net/resolve.h"
#include "net/stream.h"
#include "net/timer.h"
#include "net/tls.h"
#include "net/worker.h"
#include "policy/budget.h"
#include "policy/failures.h"
#include "policy/gather.h"
#include "policy/pin.h"
#include "policy/pool.h"
#include "policy/prepared.h"
#include "policy/session.h"
#include "policy/refusal.h"
#include "proto/outstanding.h"
#include "proto/sasl_guard.h"
#include "proto/scram.h"
#include "proto/sql.h"
#include "proto/sql_memo.h"
#include "proto/startup.h"
#include "proxy/door.h"
#include "proxy/stats.h"

#define PROXY_READ_BYTES 65536 /* one read */
#define PROXY_HELD_MAX   65536 /* what may be kept of a message until it is complete */
#define CANCEL_KEY_MAX   32
#define NAME_BYTES       (STARTUP_NAME_MAX + 1) /* PostgreSQL's NAMEDATALEN */

struct server; /* proxy and client: door.h */
struct lane;
struct upstream;
struct probe;
struct upgrade;
struct takeover;
struct asker;
struct auth_lookup;
struct auth_cache;
struct verifiers_job;
struct error_fields;

/* Connections that are asked what they lead to, at most (probe.c). */
#define PROBES_MAX 4

/* One [pool:NAME]. */
struct proxy_pool {
    struct pool pool; /* the rules: lists, waiters, what next */
    struct proxy *proxy;
    size_t index;
    const struct config_pool *config; /* NULL once a reload has dropped the pool */
    char *name;
    struct login_door door; /* of those who come to it, when it reserves something */
    int clients;
    int pinned;      /* of these, tied to their backends */
    int64_t ceiling; /* our connections when the upstream last said "full"; or none: upstream.h */
    enum refusal starved_by;   /* it was refused what it reserved: how far "full" reaches */
    struct lane *starved_lane; /* the lane that was refused */
    struct pool_stats stats;
    bool is_running; /* proxy_run_pool is at work, further down the stack */
    bool runs_again;
};

/* Whether some of the cap is this pool's alone. */
static inline bool proxy_pool_is_reserved(const struct proxy_pool *pool)
{
    return pool->config && pool->config->reserved > 0;
}

/* A run-time parameter that the server reports (ParameterStatus). */
struct parameter {
    char *name;
    char *value;
};

/* What a client's start-up settings came to, so that the next one with the same needs no backend to know. */
struct start_memory {
    char *key;
    struct settings *settings; /* in force, without application_name */
    struct settings *told;     /* the parameters that the server reported anew */
    UT_hash_handle hh;
};

/* One (pool, database, upstream user): the pool's lane and what its logins need. */
struct lane {
    struct pool_lane lane;
    struct proxy_pool *pool;
    char *section;  /* which [database:...] serves it */
    char *database; /* the upstream's name of it */
    char *user;     /* NULL: libpq's default */
    char *password;
    bool is_gone; /* its section, or whose server its password is for: it opens nothing more */
    char *key;    /* of the hash table */
    struct parameter *parameters; /* as the last login reported them; NULL before the first */
    size_t parameter_count;
    struct start_memory *starts; /* hash by key */
    bool has_changed;            /* sessions began with other parameters before: defaults.h */
    bool has_triggers;           /* of users, in its database, as far as known */
    int64_t triggers_asked_us;
    struct asker *asker; /* auth_query runs on its connection; NULL: clients use it */
    bool is_replication; /* logins ask for the replication protocol, with these: */
    char *replication;
    char *options;
    bool uses_currval;   /* a client of it has asked for a sequence's value of its session */
    char *error;         /* why the last login failed; NULL when it did not */
    char error_state[6]; /* its SQLSTATE */
    bool is_full;        /* it failed because the upstream has no free connection */
    struct stats stats;
    int clients; /* that have logged in and not closed yet */
    int staying; /* of these, as last counted in an upgrade: without a connection, and cannot go */
    UT_hash_handle hh;
};

/* What a login for replication asks for: libpq's `replication` and `options`. */
struct lane_replication {
    const char *replication;
    const char *options;
};

/* Where a client comes from: a fifth of a sockaddr_storage. */
union client_address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

enum client_state {
    CLIENT_STARTUP,        /* first packet, TLS */
    CLIENT_AUTHENTICATING, /* its password */
    CLIENT_LOGIN,          /* known; waits for a backend to learn its session's parameters */
    CLIENT_READY,          /* no backend */
    CLIENT_WAITING,        /* in the queue */
    CLIENT_LINKED,         /* has a backend */
    CLIENT_CONSOLE,        /* talks to the admin console */
    CLIENT_LEAVING,        /* on its way to the next process of an upgrade */
    CLIENT_CLOSING,        /* its last bytes are leaving */
    CLIENT_GONE
};

/* Idle clients are many: what one costs is looked at (the Idle chapter of `make bench`), so what only few need hangs on a
 * pointer, and what is needed while a transaction runs alone goes back when it is over. */
struct client {
    struct pool_waiter waiter; /* first: waiters are cast back */
    struct proxy *proxy;
    struct proxy_pool *pool; /* NULL: the admin listener */
    struct lane *lane;
    struct server *server; /* while LINKED (or LOGIN with a backend) */
    uint64_t id;           /* of no other client, ever; not 0 */
    enum client_state state;
    uint32_t later_turn; /* put into proxy->later in this turn */
    struct stream stream;
    struct buffer held;       /* bytes read and not yet dealt with */
    uint32_t message_left;    /* of the message that is passing */
    uint8_t last_type;        /* of the last message that went to the server */
    bool is_discarding : 1;   /* the passing message is thrown away */
    bool is_skipping : 1;     /* after an error of ours: up to the next Sync */
    bool must_skip_query : 1; /* the held message is the one that an error of ours answers */
    bool is_unix : 1;
    bool may_read_later : 1;   /* in proxy->later */
    bool is_busy : 1;          /* console: no more messages before its command is complete */
    bool is_administrator : 1; /* console: may do everything, else only SHOW */
    bool is_counted : 1;       /* in its pool's number of clients */
    bool has_begun : 1;        /* its first byte has been seen */
    bool is_direct_tls : 1;    /* which was a ClientHello's; its handshake has not been looked at */
    bool has_asked_tls : 1;    /* SSLRequest was answered */
    bool has_asked_gss : 1;
    bool has_own_unnamed : 1;   /* the backend's unnamed statement is its own, or there is none */
    bool has_unbound_parse : 1; /* an unnamed statement is not kept, and no Bind has used it yet */
    bool has_set_unnamed : 1;   /* a Parse or Close of it was sent since the last Sync */
    bool saw_copy : 1;          /* the last text may be a COPY */
    uint8_t text_phase : 4;     /* what of the passing message is text: enum in relay_client.c */
    uint8_t database_step : 4;  /* enum database_step (clear.h) */
    bool has_set : 1;          /* its transaction may have settings that `settings` does not tell */
    bool changes_defaults : 1; /* ALTER ROLE or DATABASE .. SET is done, if not committed yet */
    bool has_private_names : 1; /* its statements are on its backend under its own names */
    bool has_unasked : 1; /* something was run since the server was asked what the session holds */
    bool saw_reset : 1;   /* a statement since the last Sync goes back to start-up settings */
    bool resets_locally : 1;     /* and it is SET LOCAL .. TO DEFAULT alone */
    bool must_restore_again : 1; /* a cancel has hit the query that was to restore them */
    bool has_bound : 1;          /* its last query is a prepared statement */
    uint8_t reset;               /* which of them: enum reset */
    uint16_t restores;           /* such on their way */
    uint16_t provided;       /* unnamed statements that we have put on its backend, on their way */
    bool was_warned : 1;     /* leak_warning has spoken about this link */
    bool has_terminated : 1; /* by Terminate: what it has sent before is the server's to do */
    bool is_lingering : 1;   /* was told a FATAL: closed when it has closed too */
    bool has_said_goodbye : 1;       /* our side of the connection is shut */
    bool must_stay : 1;              /* the next process of an upgrade did not take it */
    bool is_stranger : 1;            /* console: may not even SHOW; told after its proof */
    bool has_others_certificate : 1; /* whose name is not the user's: no password will help */
    bool is_aside : 1;               /* its proof is being looked at in a thread */
    uint8_t left_state; /* LEAVING: the state that it comes back to (enum client_state) */
    uint32_t pins;      /* enum pin: why it keeps its backend */
    uint32_t asks;      /* enum pin: what the server is to be asked when the transaction is over */
    struct sql_scan *scan;               /* while a text that is not there in whole passes; NULL */
    struct settings *settings;           /* what must be in force when it runs something */
    struct settings *base;               /* what it asked for at start-up, and RESET goes back to */
    struct settings *told;               /* reported to it last, of what matters; NULL: nothing */
    struct settings *untold;             /* reported while a restore is on its way */
    struct client_statements statements; /* its names of prepared statements */
    char *user;                          /* NULL before the start-up packet */
    char *database;                      /* behind the user, in the same allocation */
    char *application_name;  /* never NULL; client_set_application_name alone frees it */
    struct startup *startup; /* the rest of its packet; NULL when the session is open */
    uint16_t minor;          /* of the protocol, agreed */
    uint8_t key_bytes;       /* of key_secret */
    uint8_t auth_step;
    uint32_t key_pid;
    uint8_t key_secret[CANCEL_KEY_MAX];
    union {                           /* while authenticating */
        struct scram_exchange *scram; /* NULL: none */
        struct aside_job *aside;      /* when is_aside */
    };
    struct auth_lookup *lookup; /* likewise, when auth_query is to say its secret; or NULL */
    uint8_t md5_salt[4];
    union client_address address;
    struct login_door *door; /* at which it stands; NULL: it has logged in */
    int64_t connected_wall_us;
    int64_t since_us;       /* in its state */
    int64_t request_us;     /* when it last began to want something */
    int64_t linked_us;      /* since when it has its backend */
    int64_t transaction_us; /* when its transaction's first message left */
    int64_t answered_us;    /* its last ReadyForQuery; when it came, before the first */
    union {                 /* its last query, while it waits or has a backend: client_query.h */
        char *query;        /* NULL: none */
        struct statement *bound; /* when has_bound */
    };
    int64_t query_timeout_us; /* the one that cancelled its query; 0: none did */
    void *console;            /* the console's own state; freed by proxy->console_free */
    TAILQ_ENTRY(client) link;
    TAILQ_ENTRY(client) later_link;
    union {
        TAILQ_ENTRY(client) door_link; /* before it has logged in */
        LIST_ENTRY(client) key_link;   /* once it has a key */
    };
};
TAILQ_HEAD(client_list, client);

/* Clients by their cancel keys: a quarter of what a handle of uthash takes in each client. */
#define CLIENT_KEY_LISTS 4096
LIST_HEAD(client_key_list, client);

struct server {
    struct pool_backend backend; /* first: backends are cast back */
    struct proxy *proxy;
    struct lane *lane;
    struct client *client; /* linked, or NULL */
    struct asker *asker;   /* whose question it carries, or NULL */
    PGconn *conn;
    PGcancel *cancel;
    struct resolve_job *resolving;
    struct hosts hosts; /* those that the login may yet try */
    struct event login_event;
    bool has_login_event;
    bool awaits_more;        /* the login's event tells of new bytes alone */
    struct sasl_guard guard; /* what the server has asked for so far */
    size_t login_bytes;      /* that it has sent before it was ours to relay */
    struct stream stream;
    bool is_streaming; /* the login is done and `stream` is open */
    struct outstanding outstanding;
    struct settings *settings;            /* in force on it */
    struct settings *defaults;            /* in force where nobody has set anything: defaults.h */
    struct backend_statements statements; /* what is prepared on it */
    bool needs_look;                      /* one of the next four says more than `settings` */
    bool is_unknown;                      /* settings may be in force that `settings` lacks */
    bool is_spoilt;                       /* nothing can clean it for another client */
    bool has_settled_first;               /* they are, and its first message comes now */
    bool must_settle_first;  /* the client's messages wait until its settings are in force */
    uint64_t hidden_by;      /* this client ran code that may have set what cannot be asked for */
    uint64_t sequences_by;   /* this client has drawn from a sequence */
    uint64_t inserted_by;    /* this client was the last whose statement may have drawn */
    uint64_t prepared_by;    /* this client has statements under names of its own */
    uint32_t prepared_signs; /* of their texts */
    uint64_t named_by;       /* this client has named, in its texts, */
    struct buffer named;     /* these custom settings: as in `customs` */
    uint32_t asked;          /* enum pin: a question is on its way; 0: none */
    uint32_t found;          /* of these, what its answer has said so far */
    bool has_failed_question;
    uint8_t failed_questions;    /* in a row */
    struct settings_draft draft; /* the settings that the answer has named so far */
    struct buffer held;          /* the beginning of a message that has not come in whole */
    uint32_t message_left;
    bool is_swallowing;     /* the passing message is not for the client */
    bool is_dirty;          /* DISCARD ALL before the next client */
    bool is_finishing;      /* what its client sent before a Terminate is still done */
    size_t unheard;         /* bytes of the answers to that */
    bool is_broken_off;     /* the client left in mid-message: only good for closing */
    bool said_fatal;        /* it sent a FATAL: the end is near */
    bool is_held_for_close; /* its socket is gone; counted until deadline_us */
    bool awaits_goodbye; /* and, after a login that took too long, until the server has closed it */
    bool wants_cancel_again;
    bool watches_tags;         /* a DISCARD ALL, DEALLOCATE ALL or ALTER .. SET may be on its way */
    char status;               /* of its last ReadyForQuery: I, T, E */
    char application_name[64]; /* in force on it, to be shown */
    int cancels;               /* on their way */
    int pid;
    int real_pid;        /* of the process behind a pooler, as far as asked; 0 unknown */
    struct probe *probe; /* at the end of a login, while the upstream's kind is asked for */
    int64_t deadline_us; /* of its login, ping, cleaning; INT64_MAX none */
    int64_t connected_wall_us;
    int64_t request_us;
    const char *close_reason;
    char *fatal_text; /* of the FATAL it sent while nobody was linked */
    TAILQ_ENTRY(server) link;
};
TAILQ_HEAD(server_list, server);

struct listener {
    struct proxy *proxy;
    struct proxy_pool *pool; /* NULL: admin */
    int fd;
    bool is_unix;
    char *unix_path; /* to remove at the end; NULL: none, or another's */
    char *name;      /* systemd's, when it made the socket */
    bool is_shut;    /* accepts nobody until there is room at its door */
    char *text;      /* for the log: 127.0.0.1:6432 */
    struct event event;
    TAILQ_ENTRY(listener) link;
};
TAILQ_HEAD(listener_list, listener);
struct grave;
struct gate;

enum proxy_state { PROXY_RUNNING, PROXY_STOPPING, PROXY_STOPPED };

struct proxy {
    struct event_base *base;
    struct config *config;
    struct users *users; /* NULL: the upstream's own user */
    struct rules *rules; /* of hba_file; NULL: the method of [auth] */
    struct tls_context *tls;
    struct workers *workers;
    struct workers *aside_workers; /* of logins; NULL: none was needed yet */
    LIST_HEAD(aside_list, aside_job) asides;
    struct budget budget;
    struct proxy_pool *pools[BUDGET_POOLS_MAX];
    size_t pool_count;
    struct lane *lanes; /* hash by key */
    struct statement_table statements;
    struct settings_table settings;
    struct sql_memo memo;  /* what statements say that come again and again */
    struct buffer customs; /* names of custom settings in statements, each with its zero */
    uint64_t last_client_id;
    struct upstream *upstreams;
    struct server *probes_held[PROBES_MAX]; /* their logins are complete, but for what they ask */
    size_t probes_held_count;
    bool someone_starved; /* at the last look: lanes may have to be told that it is over */
    struct client_list clients;
    struct server_list servers;
    struct query_text *free_queries; /* a free list: client_query.c */
    int free_query_count;
    struct client_key_list clients_by_key[CLIENT_KEY_LISTS];
    struct listener_list listeners;
    struct client_list later; /* clients to be read from at the end of the turn */
    uint32_t later_turn;
    struct grave *graves;
    struct event *later_event;
    struct timer *tick;
    struct event *accept_again_event;
    struct event *signal_events[8];
    int spare_fd;                 /* given up for a moment when descriptors run out */
    struct inheritance inherited; /* listening sockets that nobody has taken yet */
    bool is_accepting_held;       /* another process accepts */
    struct notify notify;
    struct upgrade *upgrade;   /* to the next process; NULL: none goes on */
    struct takeover *takeover; /* from the last process, which still lives; NULL: none */
    struct buffer said_places; /* the connections that it knows of */
    int64_t places_lost_us;    /* what a dead process had open counts until then; 0: none did */
    char *program;             /* what we were started as, and how: what an upgrade starts */
    char **arguments;
    struct client *sweep_next; /* where the next tick goes on; NULL: at the first */
    int64_t swept_us;          /* when clients were looked at last */
    int client_count;
    int open_server_count;
    enum proxy_state state;
    struct gate *gates; /* what an operator has paused or disabled: control.c */
    bool is_suspended;  /* nothing is read from clients or granted to them */
    bool is_draining;   /* no new clients; stops when the last one has gone */
    int exit_status;
    int64_t now_us;
    struct gather gather;       /* turn.c; every stream's callback counts in it */
    struct stats console_stats; /* what the console has done */
    int64_t stats_newer_us;     /* when the counters were last set down for the averages, */
    int64_t stats_older_us;     /* and the time before that */
    int64_t stop_us;            /* when a graceful stop becomes an immediate one */
    int64_t started_wall_us;
    struct auth_cache *auth_cache;       /* what auth_query said last */
    uint8_t secret[32];                  /* for mock SCRAM salts */
    struct verifier *verifiers;          /* SCRAM verifiers of plain passwords, derived once */
    struct verifiers_job *verifiers_job; /* a worker derives some; NULL: none */
    struct login_door shared_door;       /* of the pools without a reservation */
    struct login_door admin_door;
    struct failures *failures; /* of whose logins */
    /* the floor above: the admin console */
    void (*console_message)(struct client *client, uint8_t type, const uint8_t *body,
                            size_t length);
    void (*console_cancel)(struct client *client);
    void (*console_free)(struct client *client);
    void (*watch_tick)(struct proxy *proxy); /* at every tick; NULL: nobody watches */
    void (*watch_free)(struct proxy *proxy);
    void *watch;
    void *http;
    void (*hold_http)(struct proxy *proxy); /* `is_accepting_held` has changed */
    /* Calls back with each of its sockets, and the name that systemd gave it. */
    void (*visit_http)(struct proxy *proxy, void (*visit)(void *arg, int fd, const char *name),
                       void *arg);
    bool was_reloaded;
    size_t held_bytes; /* of all clients (held.h) */
    uint8_t client_bytes[PROXY_HELD_MAX + PROXY_READ_BYTES];
    uint8_t server_bytes[PROXY_HELD_MAX + PROXY_READ_BYTES];
};

/* ---- proxy.c: the whole ---- */

/* Takes over the config; opens nothing yet. */
struct proxy *proxy_new(struct config *config, struct event_base *base);
/* Listens, starts filling the pools.  False after logging why. */
bool proxy_start(struct proxy *proxy);
/* Frees everything; the loop has ended. */
void proxy_free(struct proxy *proxy);
/* Graceful first, at once when called again or `at_once`. */
void proxy_stop(struct proxy *proxy, bool at_once);
/* Does what the pool's rules say until they say nothing. */
void proxy_run_pool(struct proxy_pool *pool);
/* Whether the pools open nothing more; what is open serves on. */
void proxy_stop_opening(struct proxy *proxy, bool is_stopping);
/* The same for every pool: a connection has been given back to the budget. */
void proxy_run_pools(struct proxy *proxy);
/* Frees `object` by `bury` at the end of the loop's turn. */
void proxy_bury(struct proxy *proxy, void *object, void (*bury)(void *object));
/* Has the client's input looked at again at the end of the turn. */
void proxy_read_later(struct client *client);
struct proxy_pool *proxy_find_pool(struct proxy *proxy, const char *name);
/* A backend has been given (BUSY) to who waited for one of its lane. */
void proxy_granted(struct pool_waiter *waiter, struct server *server);

/* ---- lane.c ---- */

/* The lane of this pool, database and user, made when it is new; `replication` is NULL for ordinary sessions. */
struct lane *proxy_lane(struct proxy_pool *pool, const struct config_database *database,
                        const char *name, const char *user, const char *password,
                        const struct lane_replication *replication);
/* The lane on which auth_query runs, made when it is new: of this pool, the section's upstream, this database and user. */
struct lane *proxy_asking_lane(struct proxy_pool *pool, const struct config_database *database,
                               const char *name, const char *user, const char *password);
/* Frees those that nobody uses any more, and which a stranger's names, replication or auth_query have made. */
void lane_sweep(struct proxy *proxy);
void lane_free(struct proxy *proxy, struct lane *lane);

/* ---- reload.c ---- */

/* Reads the configuration again.  False with a text in `error` when the old one stays. */
bool proxy_reload(struct proxy *proxy, char *error, size_t error_bytes);
/* Puts `next` in force, or frees it and returns false: users and certificates are read anew. */
bool proxy_adopt(struct proxy *proxy, struct config *next, char *error, size_t error_bytes);
/* The pool's numbers as its rules want them. */
struct pool_settings reload_settings(const struct config_pool *config);
/* Sets which lane of the pool is kept filled. */
void reload_choose_primary(struct proxy_pool *pool);

/* ---- client.c: a client's life ---- */

/* False when it cannot be had: the descriptor is then still the caller's. */
bool client_accepted(struct listener *listener, int fd, const struct sockaddr_storage *address);
void client_set_state(struct client *client, enum client_state state);
/* Cuts it to a name's 63 bytes. */
void client_set_application_name(struct client *client, const char *name);
/* The session is open: what its start-up packet said is not needed any more. */
void client_forget_startup(struct client *client);
/* Reads and deals with what there is to read, as far as there is somewhere to put it. */
void client_pump(struct client *client);
/* An ERROR that pgreserve raises: the client stays.  Answers the message at the head of `held`. */
void client_error(struct client *client, const char *sqlstate, const char *message,
                  const char *detail, const char *hint);
/* A FATAL: sent, and the connection closed when it is out. */
void client_fatal(struct client *client, const char *sqlstate, const char *message,
                  const char *detail, const char *hint);
/* The FATAL 08P01 of a message that is none: what is wrong with it, and its bytes as its length word has them. */
void client_protocol_error(struct client *client, const char *what, size_t bytes);
/* The FATAL 57P01 that PostgreSQL ends a connection with when somebody in charge has said so; `hint` or NULL. */
void client_shut_down(struct client *client, const char *hint);
/* Sends an ErrorResponse or NoticeResponse (type E or N), and counts it. */
void client_send_error(struct client *client, char type, const struct error_fields *fields);

/* ---- client_wait.c ---- */

/* Tells a client that has waited long how many are `before` it and who holds longest (contract 4, wait_notice). */
void client_wait_notice(struct client *client, int before);
/* Its time in the queue is over. */
void client_wait_timed_out(struct client *client);
/* Its lane's login failed and nothing lives there. */
void client_upstream_failed(struct client *client);

/* ---- client.c, further ---- */

/* Closes when what waits in its stream is out; its backend is cleaned for others. */
void client_close(struct client *client);
/* Its place at the door is wanted by somebody else: ends it without waiting for it. */
void client_evict(struct client *client);
/* Ends what takes too long to close. */
void client_sweep(struct client *client);
/* It has been given this backend (BUSY). */
void client_granted(struct client *client, struct server *server);
/* Wants a backend: gets one at once (true) or waits. */
bool client_acquire(struct client *client);
/* A client whose descriptor is there: by accept, or handed over.  NULL: it cannot be had, the descriptor is the caller's. */
struct client *client_new(struct proxy *proxy, struct proxy_pool *pool, int fd, bool is_unix,
                          const struct sockaddr_storage *address);
/* Forgets it and closes its descriptor, without a word to anybody. */
void client_gone(struct client *client);
/* The connection's address as text: 127.0.0.1, ::1, unix. */
void client_address_text(const struct client *client, char *out, size_t out_bytes, int *port);
const char *client_state_name(const struct client *client);
/* Whether its backend is at work for it, or waits for the rest of its message; it has one. */
bool client_is_running(const struct client *client);
/* What it does with the backend that it has: "running", "idle in transaction", "idle in transaction (aborted)", "idle". */
const char *client_doing(const struct client *client);

/* ---- relay_client.c, relay.c: messages between a linked pair ---- */

/* Deals with a client's bytes; returns how many it took.  The rest must be kept. */
size_t relay_from_client(struct client *client, const uint8_t *bytes, size_t length);
/* Between two transactions: the backend is given up. */
void relay_release(struct client *client, struct server *server);
/* The rest of a client's message has gone, and nothing is owed: its transaction may have ended before, by an error in its COPY. */
void relay_message_ended(struct server *server);
/* Whether the client is in the middle of something: no answer is due before it has sent more. */
bool relay_awaits_more(const struct client *client);
/* Reads from the server and passes on, as far as the client takes it. */
void relay_server_pump(struct server *server);

/* ---- server_login.c ---- */

/* Begins a login for the lane; the place in the budget is taken at once. */
void server_open(struct lane *lane);
/* The upstream's kind has been asked for at the end of the login: goes on. */
void server_login_probed(struct server *server);
/* The login has failed with these words: backs off, fails the lane's waiters when nothing lives there. */
void server_login_failed(struct server *server, const char *message);
/* The host that the login is at says nothing: it begins anew with the others.  False when there are none. */
bool server_login_next_host(struct server *server);

/* ---- server.c: a backend's life ---- */

/* The callback of its stream. */
void server_on_stream(struct stream *stream, void *arg);
/* Sends Terminate and waits for the server's EOF; counted until then. */
void server_close(struct server *server, const char *reason);
/* The stream has ended: tells the client if there is one, gives the place back. */
void server_lost(struct server *server);
/* It has said that it goes (FATAL), to nobody: nobody gets it any more, though its end has yet to come. */
void server_dismissed(struct server *server);
/* Frees it without a word, at the very end of the process. */
void server_forget(struct server *server);
void server_ping(struct server *server);
/* The transaction is over and the client gives it up, clean. */
void server_release(struct server *server);
/* The client has gone, whatever was going on.  `was_orderly`: with a Terminate, so that what runs may come to its end. */
void server_abandon(struct server *server, bool in_mid_message, bool was_orderly);
/* Bytes of answers came for nobody: many are the end of what it does, as on a connection of its client's own. */
void server_unheard(struct server *server, size_t bytes);
/* Everything owed has been answered while no client is linked. */
void server_settled(struct server *server);
/* What kept a cancel from being sent may be over. */
void server_cancel_again(struct server *server);
/* A cancel that was on its way has returned. */
void server_cancel_done(struct server *server);
/* Looks at its deadlines. */
void server_sweep(struct server *server);

#endif
