/* tensorboard.h - event files for TensorBoard: scalars and pictures over steps. Rank 0 only. A file is a sequence of
 * records: u64 length, masked CRC32C of these 8 bytes, an Event message, its masked CRC32C; all little-endian. Every
 * open creates a new file in the folder; TensorBoard reads them in the order of their names. */
#ifndef CSC_TRAINER_REPORT_TENSORBOARD_H
#define CSC_TRAINER_REPORT_TENSORBOARD_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct tensorboard;

/* Creates FOLDER/events.out.tfevents.TIME.HOST.N. `step` is the next step: TensorBoard then hides what older files
 * have for it and later steps, which a resume has discarded. STATUS_IO. */
enum status tensorboard_open(struct tensorboard **tensorboard, const char *folder, int64_t step);
void tensorboard_close(struct tensorboard *tensorboard); /* accepts NULL */

/* Each value is written at once, completely or not at all (STATUS_IO). Values that are not finite are skipped. */
enum status tensorboard_scalar(struct tensorboard *tensorboard, const char *tag, int64_t step, double value);
enum status tensorboard_picture(struct tensorboard *tensorboard, const char *tag, int64_t step, const void *png,
                                size_t bytes, int width, int height);

#endif
