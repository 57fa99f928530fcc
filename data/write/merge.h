/* merge.h - joins the parts of a packing (--part K/N) into the dataset that one packing would have written. */
#ifndef CSC_DATA_WRITE_MERGE_H
#define CSC_DATA_WRITE_MERGE_H

#include "data/write/pack.h"

/* `parts` are the folders of all parts, in any order; each still holds the journal of its packing. The result has the
 * same bytes as an undivided packing. The hash of every block is checked. If it is interrupted, call it again and it
 * continues. Of the options only force and keep_journal are used.
 * STATUS_USAGE if the folders are not all parts of one packing; STATUS_DATA, STATUS_IO. */
enum status merge_parts(char *const *parts, int count, const char *directory, const struct pack_options *options,
                        struct pack_report *report);

#endif
