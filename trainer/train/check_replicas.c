/* check_replicas.c - checks that all ranks run the same program with the same libraries, configuration and data. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "data/read/dataset.h"
#include "trainer/train/training_parts.h"

enum { PROGRAM, MPI_LIBRARY, DEVICE_LIBRARY, CONFIGURATION, TRAIN, VAL, ITEMS };
static const struct {
    const char *name, *advice;
} items[ITEMS] = {
    [PROGRAM] = { "program", "install one version on all nodes" },
    [MPI_LIBRARY] = { "MPI library", "use one MPI on all nodes" },
    [DEVICE_LIBRARY] = { "device's library", "install one version on all nodes" },
    [CONFIGURATION] = { "configuration", "install one version on all nodes" },
    [TRAIN] = { "data.train", "all nodes must see the same dataset" },
    [VAL] = { "data.val", "all nodes must see the same dataset" },
};

struct replica { /* what one rank runs, as text */
    char items[ITEMS][80];
};

static enum status describe_replica(const struct training *t, struct replica *replica)
{
    enum status status = STATUS_OK;
    char *text = NULL;
    *replica = (struct replica){ 0 };
    snprintf(replica->items[PROGRAM], 80, "csc-train %s", CSC_VERSION);
    snprintf(replica->items[MPI_LIBRARY], 80, "%s", t->comm->library);
    snprintf(replica->items[DEVICE_LIBRARY], 80, "%s", t->device->library);
    struct config config = *t->config;               /* a shallow copy: its texts are only read */
    config.device.threads = config.data.workers = 0; /* nodes may have different numbers of cores */
    TRY(config_print(&config, &text));
    hash_text(hash_bytes(text, strlen(text)), replica->items[CONFIGURATION]);
    snprintf(replica->items[TRAIN], 80, "%s", dataset_fingerprint(t->train_set));
    snprintf(replica->items[VAL], 80, "%s", t->val_set ? dataset_fingerprint(t->val_set) : "none");
fail:
    free(text);
    return status;
}

static enum status check_same(const struct replica *first, const struct replica *mine)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < ITEMS; i++)
        if (strcmp(first->items[i], mine->items[i]) != 0)
            FAIL(i == TRAIN || i == VAL ? STATUS_DATA : STATUS_USAGE, "%s: '%s' here, '%s' on rank 0: %s",
                 items[i].name, mine->items[i], first->items[i], items[i].advice);
fail:
    return status;
}

enum status training_check_replicas(struct training *t)
{
    enum status status = STATUS_OK;
    struct replica mine, first;
    if (t->comm->size == 1)
        return STATUS_OK;
    TRY(training_agree(t, describe_replica(t, &mine)));
    first = mine;
    TRY(t->comm->ops->broadcast(t->comm, &first, sizeof first, 0));
    TRY(training_agree(t, check_same(&first, &mine)));
fail:
    return status;
}
