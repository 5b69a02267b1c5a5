/*
 * check.h - `pgreserve check`: can the cap and the reservation hold on this upstream? (contract 3)
 */
#ifndef CLI_CHECK_H
#define CLI_CHECK_H

#include "config/config.h"

/* Asks the upstream of [database:*] and says what it found.  0 it holds, 1 it does not, 3 upstream unreachable. */
int check_upstream(const struct config *config);

#endif
