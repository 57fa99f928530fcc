/* dnn_choice.c - see dnn_choice.h. */
#include "layers/backend/cuda/dnn_choice.h"

#include <stdio.h>

bool dnn_choice_print(const struct dnn_choice *choice, char text[DNN_CHOICE_TEXT])
{
    int at = snprintf(text, DNN_CHOICE_TEXT, "e%d", choice->engine);
    for (int i = 0; i < choice->knob_count && at < DNN_CHOICE_TEXT; i++)
        at += snprintf(text + at, (size_t)(DNN_CHOICE_TEXT - at), ":%d.%d", choice->knobs[i].type,
                       choice->knobs[i].value);
    return at < DNN_CHOICE_TEXT;
}

bool dnn_choice_parse(const char *text, struct dnn_choice *choice)
{
    int length = 0;
    *choice = (struct dnn_choice){ 0 };
    if (sscanf(text, "e%d%n", &choice->engine, &length) != 1 || choice->engine < 0)
        return false;
    for (text += length; *text; text += length) {
        struct dnn_knob *knob = &choice->knobs[choice->knob_count];
        if (choice->knob_count == DNN_MAX_KNOBS || sscanf(text, ":%d.%d%n", &knob->type, &knob->value, &length) != 2)
            return false;
        choice->knob_count++;
    }
    return true;
}
