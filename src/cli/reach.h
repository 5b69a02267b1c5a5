/*
 * reach.h - why an upstream cannot be reached, in words that say what to do (contract 3).
 */
#ifndef CLI_REACH_H
#define CLI_REACH_H

#include <stdio.h>

#include "config/config.h"

/* Prints what libpq's message means and what each host of the section resolves to. */
void reach_explain(FILE *out, const struct config_database *database, const char *message);

#endif
