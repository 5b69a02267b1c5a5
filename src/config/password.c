/*
 * password.c - verifiers of plain passwords: see password.h.
 */
#include "config/password.h"

#include <libpq-fe.h>
#include <openssl/rand.h>

/* Other than ASCII: libpq prepares such passwords on the client's side, so the same code does it here.  Nothing is connected:
 * the function wants a PGconn for its error messages. */
static bool prepare_and_derive(struct scram_verifier *verifier, const char *password)
{
    PGconn *conn = PQconnectStart("hostaddr=none");
    char *text = PQencryptPasswordConn(conn, password, "", "scram-sha-256");
    bool ok = text && scram_verifier_parse(verifier, text);
    PQfreemem(text);
    PQfinish(conn);
    return ok;
}

bool password_verifier(struct scram_verifier *verifier, const char *password)
{
    uint8_t salt[16];
    for (const char *at = password; *at; at++) {
        if ((unsigned char)*at >= 0x80)
            return prepare_and_derive(verifier, password);
    }
    if (RAND_bytes(salt, sizeof(salt)) != 1)
        return false;
    scram_verifier_derive(verifier, password, salt, sizeof(salt), SCRAM_ITERATIONS);
    return true;
}
