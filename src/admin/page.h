/*
 * page.h - the page at `/`: one self-contained file, compiled in.
 */
#ifndef ADMIN_PAGE_H
#define ADMIN_PAGE_H

/* The whole of src/admin/page.html. */
const char *page_text(void);
/* The Content-Security-Policy under which it works and nothing else does; free() it. */
char *page_policy(void);

#endif
