/* plan_search.h - what a convolution's plan may be: candidates that are built side by side and timed. Only for plans.c.
 */
#ifndef CSC_LAYERS_BACKEND_CUDA_PLAN_SEARCH_H
#define CSC_LAYERS_BACKEND_CUDA_PLAN_SEARCH_H

#include "layers/backend/cuda/gpu.h"

/* Where a plan comes from. APART: nothing is fused; the plain convolution's plan, and a pass of its own behind it. */
enum plan_source { PLAN_CUDNN, PLAN_CUBLAS, PLAN_UNFUSED };
struct plan_choice {
    enum plan_source source;
    struct dnn_choice dnn; /* of cuDNN's */
    int gemm;              /* of cuBLASLt's: which of its proposals */
};
/* "e62:2.4:13.0", "b3" or "apart". parse: false if the text is anything else. */
void plan_choice_print(const struct plan_choice *choice, char text[DNN_CHOICE_TEXT]);
bool plan_choice_parse(const char *text, struct plan_choice *choice);

enum { SEARCH_CUBLAS_PROPOSALS = 8, SEARCH_CANDIDATES = DNN_MAX_CHOICES + SEARCH_CUBLAS_PROPOSALS };

struct plan_search {
    const struct dnn_spec *spec;
    char key[PLAN_KEY];
    bool chosen; /* there is one candidate only, which was measured before */
    int count;
    struct candidate {
        struct plan_choice choice;
        bool unranked;    /* beyond what is ranked: not built when time has run out */
        struct plan plan; /* owned */
    } candidates[SEARCH_CANDIDATES];
};

void plan_destroy(struct plan *plan);
/* Lists candidates, unless one is chosen, and builds them: with a table of choices all, without one up to the first
 * that can be built. Threads share the work. */
enum status search_build(struct gpu *gpu, struct plan_search *searches, int count);
/* The fastest of what was built: its index and entry. Where the GPU has no memory to time them *best is the first that
 * was built, and entry->ms 0. A fused graph's candidates are timed against the plain plan and a pass behind it; where
 * that is faster *best is -1 and the choice "apart". Writes what was tried to `tried`, if it is not NULL. */
enum status search_measure(struct gpu *gpu, struct plan_search *search, int *best, struct plan_entry *entry,
                           const char *candidates_path);
void search_finish(struct plan_search *search);

#endif
