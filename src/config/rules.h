/*
 * rules.h - hba_file and ident_file, read together and checked against the rest of the configuration.
 */
#ifndef CONFIG_RULES_H
#define CONFIG_RULES_H

#include "config/config.h"
#include "config/hba.h"
#include "config/ident.h"

struct rules {
    struct hba *hba;
    struct ident *ident; /* NULL: no ident_file */
};

/* Reads the files that [auth] names.  NULL when there is no hba_file, or after adding to `errors` what is wrong: a line that is
 * none, a map without a file, certificates without a CA, trust where strangers can come, a password that nobody knows. */
struct rules *rules_load(const struct config *config, struct config_errors *errors);
/* The same from another source; `config` names the files. */
struct rules *rules_read(const struct config *config, const struct rule_source *source,
                         struct config_errors *errors);
void rules_free(struct rules *rules);

#endif
