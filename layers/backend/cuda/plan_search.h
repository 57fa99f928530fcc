/* plan_search.h - lists the candidates for a convolution's plan, builds them in parallel and measures them. Only for
 * plans.c. */
#ifndef CSC_LAYERS_BACKEND_CUDA_PLAN_SEARCH_H
#define CSC_LAYERS_BACKEND_CUDA_PLAN_SEARCH_H

#include "layers/backend/cuda/gpu.h"

/* Where a plan comes from. PLAN_UNFUSED: a plain convolution followed by a separate epilogue beats every fused plan. */
enum plan_source { PLAN_CUDNN, PLAN_CUBLAS, PLAN_UNFUSED };
struct plan_choice {
    enum plan_source source;
    struct dnn_choice dnn; /* PLAN_CUDNN: engine and knobs */
    int gemm;              /* PLAN_CUBLAS: number of the proposal */
};
/* As text: "e62:2.4:13.0", "b3" or "apart" (unfused). parse returns false for any other text. */
void plan_choice_print(const struct plan_choice *choice, char text[DNN_CHOICE_TEXT]);
bool plan_choice_parse(const char *text, struct plan_choice *choice);

enum { SEARCH_CUBLAS_PROPOSALS = 8, SEARCH_CANDIDATES = DNN_MAX_CHOICES + SEARCH_CUBLAS_PROPOSALS };

struct plan_search {
    const struct dnn_spec *spec;
    char key[PLAN_KEY];
    bool chosen; /* the choice is known: there is one candidate, which is not measured */
    int count;
    struct candidate {
        struct plan_choice choice;
        bool unranked;    /* cuDNN did not rank it; not built once the time for building is used up */
        struct plan plan; /* owned */
    } candidates[SEARCH_CANDIDATES];
};

void plan_destroy(struct plan *plan);
/* Lists the candidates of each search, unless its choice is known, and builds them with several threads: all of them
 * if the device has a table of choices, else up to the first that can be built. */
enum status search_build(struct gpu *gpu, struct plan_search *searches, int count);
/* Measures what was built. *best is the index of the fastest candidate and *entry its line for the table. For a
 * fused spec, *best is -1 if a plain convolution with a separate epilogue is faster. If the GPU has no memory to
 * measure, *best is the first candidate that was built and entry->ms is 0. Appends every measured candidate to the
 * file candidates_path, unless that is NULL. */
enum status search_measure(struct gpu *gpu, struct plan_search *search, int *best, struct plan_entry *entry,
                           const char *candidates_path);
void search_finish(struct plan_search *search);

#endif
