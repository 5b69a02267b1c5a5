/*
 * own_address.h - whether an upstream is one of our own listeners (contract 4).
 */
#ifndef CONFIG_OWN_ADDRESS_H
#define CONFIG_OWN_ADDRESS_H

#include "config/config.h"

/* Which of the database's hosts would lead to this listener, as "HOST port PORT", to be freed; NULL when none does.  A name is
 * known when it is this machine's own or says loopback; nobody is asked for others. */
char *own_address_in(const struct config_database *database, const struct config_address *listener);

#endif
