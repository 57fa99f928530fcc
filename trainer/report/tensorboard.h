/* tensorboard.h - event files that TensorBoard reads: scalars and pictures over steps. Rank 0 only.
 * A file is a row of records: u64 length, masked CRC32C of those 8 bytes, an Event message, masked CRC32C of it; all
 * little-endian. Every open begins a new file of the folder; TensorBoard reads them in the order of their names. */
#ifndef CSC_TRAINER_REPORT_TENSORBOARD_H
#define CSC_TRAINER_REPORT_TENSORBOARD_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct tensorboard;

/* RUN/events.out.tfevents.TIME.HOST.N. The next step will be `step`: what older files say of it and of later steps,
 * which a resume has given up, is then no longer shown. STATUS_IO. */
enum status tensorboard_open(struct tensorboard **tensorboard, const char *folder, int64_t step);
void tensorboard_close(struct tensorboard *tensorboard); /* NULL is fine */

/* Each is written at once and whole, or not at all: STATUS_IO. Values that are not finite are left out. */
enum status tensorboard_scalar(struct tensorboard *tensorboard, const char *tag, int64_t step, double value);
enum status tensorboard_picture(struct tensorboard *tensorboard, const char *tag, int64_t step, const void *png,
                                size_t bytes, int width, int height);

#endif
