/* merge.h - joins the parts of a packing (--part K/N) into the dataset that it would have been in one. */
#ifndef CSC_DATA_WRITE_MERGE_H
#define CSC_DATA_WRITE_MERGE_H

#include "data/write/pack.h"

/* parts: their folders, in any order, with the journals that packing them left there. The result has the bytes of the
 * undivided packing. Every block's hash is compared on the way. Interrupted, it goes on when called again. Of the
 * options, force and keep_journal count. STATUS_USAGE if the folders are not all parts of one packing, STATUS_DATA,
 * STATUS_IO. */
enum status merge_parts(char *const *parts, int count, const char *directory, const struct pack_options *options,
                        struct pack_report *report);

#endif
