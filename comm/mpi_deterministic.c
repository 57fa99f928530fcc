/* mpi_deterministic.c - sums whose bits depend only on the values and the number of ranks.
 * Let P be the largest power of two <= size. First, rank P + i adds its values to those of rank i. Then the ranks
 * below P use recursive doubling: partners at distance 1, 2, 4 ... exchange their values, and both compute lower +
 * higher. Finally, ranks from P receive the result. So 4 ranks compute (0 + 1) + (2 + 3), and 6 ranks ((0 + 4) + (1 +
 * 5)) + (2 + 3). Large arrays are sent in segments, which does not change the sums. */
#include "base/bf16.h"
#include "comm/mpi_internal.h"

#define TAG 1

struct element {
    MPI_Datatype type;
    size_t bytes;
    void (*add)(void *into, const void *low, const void *high, size_t count); /* `into` may be `low` or `high` */
};

static void add_f32(void *into, const void *low, const void *high, size_t count)
{
    const float *a = low, *b = high;
    for (size_t i = 0; i < count; i++)
        ((float *)into)[i] = a[i] + b[i];
}

static void add_f64(void *into, const void *low, const void *high, size_t count)
{
    const double *a = low, *b = high;
    for (size_t i = 0; i < count; i++)
        ((double *)into)[i] = a[i] + b[i];
}

void mpi_add_bf16(void *into, const void *low, const void *high, size_t count)
{
    const uint16_t *a = low, *b = high;
    for (size_t i = 0; i < count; i++)
        ((uint16_t *)into)[i] = bf16_from_float(bf16_to_float(a[i]) + bf16_to_float(b[i]));
}

static enum status recursive_doubling(struct mpi_comm *comm, const struct element *e, void *data, size_t count,
                                      int power)
{
    enum status status = STATUS_OK;
    for (int distance = 1; distance < power; distance *= 2) {
        int partner = comm->base.rank ^ distance;
        TRY_MPI(MPI_Sendrecv, data, (int)count, e->type, partner, TAG, comm->received, (int)count, e->type, partner,
                TAG, comm->world, MPI_STATUS_IGNORE);
        if (comm->base.rank < partner)
            e->add(data, data, comm->received, count);
        else
            e->add(data, comm->received, data, count);
    }
fail:
    return status;
}

/* At most SEGMENT_ELEMENTS elements. */
static enum status reduce_segment(struct mpi_comm *comm, const struct element *e, void *data, size_t count)
{
    enum status status = STATUS_OK;
    int power = 1, rank = comm->base.rank;
    while (power <= comm->base.size / 2)
        power *= 2;
    if (rank >= power) {
        TRY_MPI(MPI_Send, data, (int)count, e->type, rank - power, TAG, comm->world);
        TRY_MPI(MPI_Recv, data, (int)count, e->type, rank - power, TAG, comm->world, MPI_STATUS_IGNORE);
        return STATUS_OK;
    }
    bool paired = rank + power < comm->base.size;
    if (paired) {
        TRY_MPI(MPI_Recv, comm->received, (int)count, e->type, rank + power, TAG, comm->world, MPI_STATUS_IGNORE);
        e->add(data, data, comm->received, count);
    }
    TRY(recursive_doubling(comm, e, data, count, power));
    if (paired)
        TRY_MPI(MPI_Send, data, (int)count, e->type, rank + power, TAG, comm->world);
fail:
    return status;
}

static enum status reduce_segments(struct mpi_comm *comm, const struct element *e, void *data, size_t count)
{
    enum status status = STATUS_OK;
    for (size_t done = 0; done < count; done += SEGMENT_ELEMENTS) {
        size_t segment = count - done < SEGMENT_ELEMENTS ? count - done : SEGMENT_ELEMENTS;
        TRY(reduce_segment(comm, e, (char *)data + done * e->bytes, segment));
    }
fail:
    return status;
}

static enum status sum_bf16(struct mpi_comm *comm, float *data, size_t count)
{
    enum status status = STATUS_OK;
    struct element element = { comm->bf16, sizeof(uint16_t), mpi_add_bf16 };
    for (size_t done = 0; done < count; done += SEGMENT_ELEMENTS) {
        size_t segment = count - done < SEGMENT_ELEMENTS ? count - done : SEGMENT_ELEMENTS;
        bf16_from_floats(comm->packed, data + done, segment);
        TRY(reduce_segment(comm, &element, comm->packed, segment));
        bf16_to_floats(data + done, comm->packed, segment);
    }
fail:
    return status;
}

enum status mpi_deterministic_f32(struct mpi_comm *comm, float *data, size_t count, enum comm_dtype wire)
{
    if (wire == COMM_BF16)
        return sum_bf16(comm, data, count);
    return reduce_segments(comm, &(struct element){ MPI_FLOAT, sizeof *data, add_f32 }, data, count);
}

enum status mpi_deterministic_f64(struct comm *comm, double *data, size_t count)
{
    return reduce_segments((struct mpi_comm *)comm, &(struct element){ MPI_DOUBLE, sizeof *data, add_f64 }, data,
                           count);
}
