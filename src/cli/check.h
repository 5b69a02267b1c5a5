/*
 * check.h - `pgreserve check`, the doctor: can the cap and the reservation hold on this upstream? (contract 3)
 */
#ifndef CLI_CHECK_H
#define CLI_CHECK_H

#include "config/config.h"

/* Asks the upstream of every [database:...] section, through the daemon when it runs, and says what it found and what to
 * write instead.  0 it holds, 1 it does not, 3 an upstream is unreachable. */
int check_upstream(const struct config *config);

#endif
