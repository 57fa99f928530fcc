/* dnn.c - asks cuDNN for the plans of a graph, builds one of them and runs it. */
#include "layers/backend/cuda/dnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/backend/cuda/dnn_graph.h"

enum { MAX_RANKED = 24, MAX_FALLBACKS = 8, MAX_ENGINE_KNOBS = 32 }; /* proposals to ask for; knobs of an engine */

/* ---- choices ---- */

static bool same_choice(const struct dnn_choice *a, const struct dnn_choice *b)
{
    bool same = a->engine == b->engine && a->knob_count == b->knob_count;
    for (int i = 0; i < a->knob_count && same; i++)
        same = a->knobs[i].type == b->knobs[i].type && a->knobs[i].value == b->knobs[i].value;
    return same;
}

/* Leaves out choices that were added before, and those whose text does not fit: they could not be kept. */
static void add_choice(struct dnn_proposals *proposals, const struct dnn_choice *choice)
{
    char text[DNN_CHOICE_TEXT];
    for (int i = 0; i < proposals->count; i++)
        if (same_choice(&proposals->choices[i], choice))
            return;
    if (proposals->count < DNN_MAX_CHOICES && dnn_choice_print(choice, text))
        proposals->choices[proposals->count++] = *choice;
}

/* ---- engines and their configurations ---- */

/* Reads an attribute that has one value; false if that fails. */
static bool get_attribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                          cudnnBackendAttributeType_t type, void *value)
{
    int64_t count = 0;
    return cudnnBackendGetAttribute(d, name, type, 1, &count, value) == CUDNN_STATUS_SUCCESS && count == 1;
}

/* Whether the engine keeps the precision and gives the same bits in every run. */
static bool acceptable(cudnnBackendDescriptor_t engine, enum precision precision)
{
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t count = 0;
    if (cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                 CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes) != CUDNN_STATUS_SUCCESS)
        return false;
    for (int64_t i = 0; i < count; i++)
        if (notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC || notes[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
            notes[i] == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION || notes[i] == CUDNN_NUMERICAL_NOTE_FFT ||
            notes[i] == CUDNN_NUMERICAL_NOTE_WINOGRAD || notes[i] == CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4 ||
            notes[i] == CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6 ||
            notes[i] == CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13 ||
            (notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE && precision == PRECISION_FP32))
            return false;
    return true;
}

/* The graph's engine with this index; NULL if there is none or it is not acceptable. */
static cudnnBackendDescriptor_t engine_of(struct dnn_graph *g, cudnnBackendDescriptor_t properties, int index,
                                          enum precision precision)
{
    int64_t global = index;
    cudnnBackendDescriptor_t engine = dnn_graph_make(g, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    dnn_graph_set_descriptor(g, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, g->graph);
    dnn_graph_set(g, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &global);
    if (properties)
        dnn_graph_set_descriptor(g, engine, CUDNN_ATTR_ENGINE_DEVICEPROP, properties);
    if (g->error != CUDNN_STATUS_SUCCESS || cudnnBackendFinalize(engine) != CUDNN_STATUS_SUCCESS ||
        !acceptable(engine, precision))
        return NULL;
    return engine;
}

/* Reads engine and knobs of a proposed configuration; false if the engine is not acceptable or the choice has too
 * many knobs. */
static bool read_config(struct dnn_graph *g, cudnnBackendDescriptor_t config, enum precision precision,
                        struct dnn_choice *choice)
{
    cudnnBackendDescriptor_t engine = dnn_graph_make(g, CUDNN_BACKEND_ENGINE_DESCRIPTOR), knobs[DNN_MAX_KNOBS];
    int64_t index = 0, count = 0, value = 0;
    cudnnBackendKnobType_t type;
    for (int i = 0; i < DNN_MAX_KNOBS; i++)
        knobs[i] = dnn_graph_make(g, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    if (g->error != CUDNN_STATUS_SUCCESS ||
        !get_attribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, &engine) ||
        !acceptable(engine, precision) ||
        !get_attribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, &index) ||
        cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count,
                                 NULL) != CUDNN_STATUS_SUCCESS ||
        count > DNN_MAX_KNOBS ||
        cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                 DNN_MAX_KNOBS, &count, knobs) != CUDNN_STATUS_SUCCESS)
        return false;
    *choice = (struct dnn_choice){ .engine = (int)index, .knob_count = (int)count };
    for (int i = 0; i < count; i++) {
        if (!get_attribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, &type) ||
            !get_attribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, &value))
            return false;
        choice->knobs[i] = (struct dnn_knob){ (int)type, (int)value };
    }
    return true;
}

static cudnnBackendDescriptor_t config_of(struct dnn_graph *g, cudnnBackendDescriptor_t engine,
                                          const struct dnn_choice *choice)
{
    cudnnBackendDescriptor_t knobs[DNN_MAX_KNOBS], config = NULL;
    for (int i = 0; i < choice->knob_count; i++) {
        cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)choice->knobs[i].type;
        int64_t value = choice->knobs[i].value;
        knobs[i] = dnn_graph_make(g, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        dnn_graph_set(g, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        dnn_graph_set(g, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &value);
        dnn_graph_finalize(g, knobs[i]);
    }
    config = dnn_graph_make(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    dnn_graph_set_descriptor(g, config, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (choice->knob_count > 0)
        dnn_graph_set(g, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, choice->knob_count,
                      knobs);
    return dnn_graph_finalize(g, config);
}

/* NULL if the engine does not support the graph after all, or needs too much workspace. */
static cudnnBackendDescriptor_t plan_of(struct dnn_graph *g, cudnnHandle_t handle, cudnnBackendDescriptor_t properties,
                                        cudnnBackendDescriptor_t config, size_t max_workspace, size_t *workspace)
{
    int64_t bytes = 0;
    cudnnBackendDescriptor_t plan = dnn_graph_make(g, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    if (properties)
        dnn_graph_set_descriptor(g, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, properties);
    else
        dnn_graph_set(g, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    dnn_graph_set_descriptor(g, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    if (g->error != CUDNN_STATUS_SUCCESS || cudnnBackendFinalize(plan) != CUDNN_STATUS_SUCCESS ||
        !get_attribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, &bytes) || bytes < 0 ||
        (size_t)bytes > max_workspace)
        return NULL;
    *workspace = (size_t)bytes;
    return plan;
}

/* ---- proposals ---- */

/* Adds up to max_count proposals of one of cuDNN's lists. */
static void propose(struct dnn_graph *g, cudnnBackendDescriptor_t properties, cudnnBackendHeurMode_t mode,
                    int max_count, enum precision precision, struct dnn_proposals *proposals)
{
    cudnnBackendDescriptor_t configs[MAX_RANKED], heuristics = dnn_graph_make(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    struct dnn_choice choice;
    int64_t count = 0;
    dnn_graph_set_descriptor(g, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g->graph);
    dnn_graph_set(g, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (properties)
        dnn_graph_set_descriptor(g, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, properties);
    if (g->error != CUDNN_STATUS_SUCCESS || cudnnBackendFinalize(heuristics) != CUDNN_STATUS_SUCCESS)
        return; /* the engine has nothing for this graph */
    for (int i = 0; i < max_count; i++)
        configs[i] = dnn_graph_make(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (g->error != CUDNN_STATUS_SUCCESS ||
        cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, max_count,
                                 &count, configs) != CUDNN_STATUS_SUCCESS)
        return;
    for (int i = 0; i < count; i++)
        if (read_config(g, configs[i], precision, &choice))
            add_choice(proposals, &choice);
}

/* Adds a choice for every kernel of an engine that compiles kernels on demand. */
static void add_kernels(struct dnn_graph *g, cudnnBackendDescriptor_t properties, int index, enum precision precision,
                        struct dnn_proposals *proposals)
{
    cudnnBackendDescriptor_t engine = engine_of(g, properties, index, precision), knobs[MAX_ENGINE_KNOBS];
    int64_t count = 0, first = 0, last = -1, stride = 1;
    cudnnBackendKnobType_t type;
    for (int i = 0; i < MAX_ENGINE_KNOBS; i++)
        knobs[i] = dnn_graph_make(g, CUDNN_BACKEND_KNOB_INFO_DESCRIPTOR);
    if (!engine || g->error != CUDNN_STATUS_SUCCESS ||
        cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_KNOB_INFO, CUDNN_TYPE_BACKEND_DESCRIPTOR, MAX_ENGINE_KNOBS,
                                 &count, knobs) != CUDNN_STATUS_SUCCESS)
        return;
    for (int i = 0; i < count && i < MAX_ENGINE_KNOBS; i++)
        if (get_attribute(knobs[i], CUDNN_ATTR_KNOB_INFO_TYPE, CUDNN_TYPE_KNOB_TYPE, &type) &&
            type == CUDNN_KNOB_TYPE_KERNEL_CFG &&
            (!get_attribute(knobs[i], CUDNN_ATTR_KNOB_INFO_MINIMUM_VALUE, CUDNN_TYPE_INT64, &first) ||
             !get_attribute(knobs[i], CUDNN_ATTR_KNOB_INFO_MAXIMUM_VALUE, CUDNN_TYPE_INT64, &last) ||
             !get_attribute(knobs[i], CUDNN_ATTR_KNOB_INFO_STRIDE, CUDNN_TYPE_INT64, &stride)))
            last = first - 1;
    const int64_t step = stride > 0 ? stride : 1;
    for (int64_t value = first; value <= last && proposals->count < DNN_MAX_CHOICES; value += step) {
        const struct dnn_choice choice = { .engine = index,
                                           .knob_count = 1,
                                           .knobs = { { CUDNN_KNOB_TYPE_KERNEL_CFG, (int)value } } };
        add_choice(proposals, &choice);
    }
}

static bool has_engine(const struct dnn_proposals *proposals, int from, int to, int engine)
{
    for (int i = from; i < to; i++)
        if (proposals->choices[i].engine == engine)
            return true;
    return false;
}

enum status dnn_propose(cudnnHandle_t handle, cudnnBackendDescriptor_t properties, const struct dnn_spec *spec,
                        struct dnn_proposals *proposals)
{
    enum status status = STATUS_OK;
    struct dnn_graph *g = dnn_graph_create(handle, properties, spec);
    *proposals = (struct dnn_proposals){ 0 };
    if (!g)
        FAIL(STATUS_NOMEM, "out of memory for a convolution's plan");
    propose(g, properties, CUDNN_HEUR_MODE_A, MAX_RANKED, spec->precision, proposals);
    int heuristic = proposals->count;
    propose(g, properties, CUDNN_HEUR_MODE_FALLBACK, MAX_FALLBACKS, spec->precision, proposals);
    int ranked = proposals->ranked = proposals->count;
    for (int i = heuristic; i < ranked && spec->epilogue != DNN_PLAIN; i++) {
        int engine = proposals->choices[i].engine;
        if (!has_engine(proposals, 0, heuristic, engine) && !has_engine(proposals, ranked, proposals->count, engine))
            add_kernels(g, properties, engine, spec->precision, proposals);
    }
fail:
    dnn_graph_destroy(g);
    return status;
}

/* ---- plans ---- */

enum status dnn_plan_create(struct dnn_plan **out, cudnnHandle_t handle, cudnnBackendDescriptor_t properties,
                            const struct dnn_spec *spec, const struct dnn_choice *choice, size_t max_workspace)
{
    enum status status = STATUS_OK;
    struct dnn_plan *plan = calloc(1, sizeof *plan);
    struct dnn_graph *g = dnn_graph_create(handle, properties, spec);
    *out = NULL;
    if (!plan || !g)
        FAIL(STATUS_NOMEM, "out of memory for a convolution's plan");
    cudnnBackendDescriptor_t engine = engine_of(g, properties, choice->engine, spec->precision);
    if (engine)
        plan->plan = plan_of(g, handle, properties, config_of(g, engine, choice), max_workspace, &plan->workspace);
    if (!plan->plan)
        goto fail; /* not an error */
    plan->graph = g;
    plan->tensors = dnn_graph_tensors(spec);
    *out = plan;
    return STATUS_OK;
fail:
    dnn_graph_destroy(g);
    free(plan);
    return status;
}

void dnn_plan_kernel(const struct dnn_plan *plan, char name[DNN_KERNEL_NAME])
{
    static const char before[] = "\"kernelName\":\"";
    int64_t length = 0;
    char *text = NULL;
    name[0] = '\0';
    if (cudnnBackendGetAttribute(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, &length,
                                 NULL) == CUDNN_STATUS_SUCCESS &&
        length > 0)
        text = calloc(1, (size_t)length + 1);
    if (text && cudnnBackendGetAttribute(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                         length, &length, text) == CUDNN_STATUS_SUCCESS) {
        const char *at = strstr(text, before);
        size_t n = at ? strcspn(at + strlen(before), "\" =\n") : 0;
        snprintf(name, DNN_KERNEL_NAME, "%.*s", (int)n, at ? at + strlen(before) : "");
    }
    free(text);
}

void dnn_plan_destroy(struct dnn_plan *plan)
{
    if (!plan)
        return;
    dnn_graph_destroy(plan->graph);
    free(plan);
}

enum status dnn_run(const struct dnn_plan *plan, cudnnHandle_t handle, const struct dnn_operands *o, void *workspace)
{
    enum status status = STATUS_OK;
    const float *scalars = o->scalars;
    const void *all[] = { o->image,
                          o->code,
                          o->weights,
                          o->add,
                          o->mask,
                          scalars,
                          scalars ? scalars + 1 : NULL,
                          scalars ? scalars + 2 : NULL };
    int64_t uids[8], count = 0;
    const void *pointers[8];
    for (int i = 0; i < 8; i++)
        if (plan->tensors >> (DNN_IMAGE + i) & 1) {
            uids[count] = DNN_IMAGE + i;
            pointers[count++] = all[i];
        }
    cudnnBackendDescriptor_t pack = NULL; /* made for each call: a finalised one takes no other pointers */
    cudnnStatus_t error = cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (error == CUDNN_STATUS_SUCCESS)
        error = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, uids);
    if (error == CUDNN_STATUS_SUCCESS)
        error = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count,
                                         pointers);
    if (error == CUDNN_STATUS_SUCCESS)
        error = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (error == CUDNN_STATUS_SUCCESS)
        error = cudnnBackendFinalize(pack);
    if (error == CUDNN_STATUS_SUCCESS)
        error = cudnnBackendExecute(handle, plan->plan, pack);
    if (pack)
        cudnnBackendDestroyDescriptor(pack);
    if (error != CUDNN_STATUS_SUCCESS)
        FAIL(STATUS_LOST, "cuDNN: %s", cudnnGetErrorString(error));
fail:
    return status;
}
