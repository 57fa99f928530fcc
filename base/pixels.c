/* pixels.c - splits scale and offset of the normalisation into two parts each. */
#include "base/pixels.h"

#include <math.h>

struct pixel_scale pixel_scale(const double mean[3], const double std[3])
{
    struct pixel_scale s;
    for (int c = 0; c < 3; c++) {
        double a = 1 / (255 * std[c]), b = -mean[c] / std[c], grid = 1 << 21;
        s.scale_high[c] = (float)(nearbyint(a * grid) / grid);
        s.offset_high[c] = (float)(nearbyint(b * grid) / grid);
        s.scale_low[c] = (float)(a - s.scale_high[c]);
        s.offset_low[c] = (float)(b - s.offset_high[c]);
    }
    return s;
}
