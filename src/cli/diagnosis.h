/*
 * diagnosis.h - what the doctor says: the sum, line by line, the verdict, and which lines to write instead.
 */
#ifndef CLI_DIAGNOSIS_H
#define CLI_DIAGNOSIS_H

#include <stdbool.h>

#include <jansson.h>

#include "cli/facts.h"
#include "config/config.h"
#include "policy/limits.h"

/* The numbers that are to be judged, and whom they are judged by. */
void diagnosis_configuration(const struct config *config, bool is_running);
/* One upstream: from max_connections down to what is left. */
void diagnosis_facts(const struct facts *facts, const struct limits_verdict *verdict,
                     const struct config_database *database, bool is_running);
/* What the running daemon has met; nothing for null. */
void diagnosis_ceiling(const json_t *ceiling);
/* Whether the cap and the reservation hold with `largest`, and what to write when not.  True when they hold. */
bool diagnosis_verdict(const struct config *config, int largest);

#endif
