/* temp.h - a folder of its own for a test, removed at the end. */
#pragma once

/* Makes a new folder under $TMPDIR or /tmp; its path stays valid until temp_remove().  Ends the
 * test program if it can't. */
const char *temp_make(void);
void temp_remove(void);
