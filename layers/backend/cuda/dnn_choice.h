/* dnn_choice.h - one of cuDNN's engines with values for its knobs, from which a plan can be built again at any time. */
#ifndef CSC_LAYERS_BACKEND_CUDA_DNN_CHOICE_H
#define CSC_LAYERS_BACKEND_CUDA_DNN_CHOICE_H

#include <stdbool.h>

enum { DNN_MAX_KNOBS = 8 };
struct dnn_choice {
    int engine, knob_count;
    struct dnn_knob {
        int type, value; /* type: cudnnBackendKnobType_t */
    } knobs[DNN_MAX_KNOBS];
};

/* As text: "e62:2.4:13.0" is engine 62 with knob 2 at 4 and knob 13 at 0. print returns false if the text does not fit,
 * parse if it is anything else. */
enum { DNN_CHOICE_TEXT = 64 };
bool dnn_choice_print(const struct dnn_choice *choice, char text[DNN_CHOICE_TEXT]);
bool dnn_choice_parse(const char *text, struct dnn_choice *choice);

#endif
