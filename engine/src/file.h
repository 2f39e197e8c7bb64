/* file.h: the container, for the library itself. */
#ifndef SQZ_FILE_H
#define SQZ_FILE_H

#include "sqz.h"

/* As sqz_file_open, but the sections' own checksums are not looked at: only where they are. */
sqz_error sqz_file_find(sqz_file *file, const void *data, size_t size);

#endif
