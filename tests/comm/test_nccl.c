/* test_nccl.c - the communicator of nccl.h on one rank, over the tests' own NCCL and GPU: more sums in progress than
 * any network of the project needs, in two steps, each of which leaves the values as they are. */
#include <cuda_runtime_api.h>
#include <string.h>

#include "comm/comm_internal.h"
#include "comm/nccl.h"
#include "tests/check.h"
#include "tests/gpu_emulation/fake_cuda.h"

enum { SUMS = 300, LENGTH = 8, COUNT = SUMS * LENGTH };

static void check_steps(struct comm *comm, float *memory, enum comm_dtype wire)
{
    struct comm_request *requests[SUMS] = { NULL };
    size_t wrong = 0;
    fake_cuda_unlock();
    for (int i = 0; i < COUNT; i++)
        memory[i] = (float)(i % 200);
    fake_cuda_lock();
    for (int step = 0; step < 2; step++) {
        for (int i = 0; i < SUMS; i++) {
            CHECK(comm->ops->all_reduce_start_f32(comm, memory + i * LENGTH, LENGTH, wire, false, &requests[i]) ==
                      STATUS_OK,
                  "sum %d: %s", i, status_message());
            CHECK(i == 0 || requests[i] != requests[i - 1], "sum %d has the request of the sum before", i);
        }
        for (int i = 0; i < SUMS; i++)
            CHECK(requests[i] && comm->ops->wait(comm, requests[i]) == STATUS_OK, "sum %d: %s", i, status_message());
    }
    fake_cuda_unlock();
    for (int i = 0; i < COUNT; i++)
        wrong += memory[i] != (float)(i % 200);
    fake_cuda_lock();
    CHECK(wrong == 0, "%zu of %d values wrong", wrong, COUNT);
}

static void check_wire(struct comm *host_comm, enum comm_dtype wire)
{
    struct comm *comm = NULL;
    struct comm_request *request;
    void *memory = NULL;
    cudaStream_t stream;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess, "no stream");
    CHECK(comm_nccl_allocate(&memory, COUNT * sizeof(float)) == STATUS_OK, "%s", status_message());
    CHECK(comm_nccl_create(&comm, host_comm, stream, memory, COUNT, wire, 10) == STATUS_OK, "%s", status_message());
    check_steps(comm, memory, wire);
    CHECK(comm->ops->all_reduce_start_f32(comm, memory, 1, wire, true, &request) == STATUS_USAGE, "deterministic");
    CHECK(comm->ops->all_reduce_start_f32(comm, (float *)memory + COUNT, 1, wire, false, &request) == STATUS_BUG,
          "a sum outside of the memory");
    comm_destroy(comm);
    comm_nccl_free(memory);
    cudaStreamDestroy(stream);
}

int main(void)
{
    struct comm *host_comm = NULL;
    CHECK(comm_self_create(&host_comm) == STATUS_OK, "%s", status_message());
    CHECK(comm_nccl_check(host_comm) == STATUS_OK, "%s", status_message());
    check_wire(host_comm, COMM_F32);
    check_wire(host_comm, COMM_BF16);
    comm_destroy(host_comm);
    return check_done("nccl");
}
