/*
 * console.h - the admin console over the PostgreSQL protocol (contract 7).
 */
#ifndef ADMIN_CONSOLE_H
#define ADMIN_CONSOLE_H

#include "proxy/proxy.h"

/* Installs the console's hooks in the proxy. */
void console_install(struct proxy *proxy);

#endif
