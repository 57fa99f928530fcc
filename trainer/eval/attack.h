/* attack.h - adversarial perturbations of images within a ball in pixel space (values in 0..1). The network under
 * attack computes as in csc-eval: with running statistics, and lambda fixed or chosen per image. Random draws depend
 * only on (seed, attack, restart, sample id), so results do not depend on ranks or batches. */
#ifndef CSC_TRAINER_EVAL_ATTACK_H
#define CSC_TRAINER_EVAL_ATTACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layers/net.h"
#include "trainer/model/adaptive.h"
#include "trainer/report/progress.h"

enum attack_kind {
    ATTACK_PGD, /* projected gradient steps of one size from a random start; uses the last iterate (Madry et al. 2018)
                 */
    ATTACK_APGD_CE, /* with momentum, and the step halved where progress stalls (Croce and Hein 2020); cross-entropy */
    ATTACK_APGD_T,  /* the same, towards each of the 9 most likely other classes; difference of logits ratio */
    ATTACK_SQUARE,  /* random search over squares, without gradients (Andriushchenko et al. 2020); Linf */
};
enum attack_norm { ATTACK_LINF, ATTACK_L2 };
enum attack_loss { ATTACK_CROSS_ENTROPY, ATTACK_MARGIN };

struct attack {
    enum attack_kind kind;
    enum attack_norm norm;
    enum attack_loss loss; /* of ATTACK_PGD */
    double eps, step;      /* for pixel values in 0..1 */
    int steps, restarts, queries;
    bool held; /* gradients treat an adaptive lambda(x) as a constant */
};

/* Parses "pgd:norm=linf,eps=8/255,steps=20,step=2/255,restarts=1,loss=ce"; missing keys get defaults.
 * STATUS_USAGE. */
enum status attack_parse(const char *text, struct attack *attack);
/* Writes an attack in that form, with all keys. */
void attack_text(const struct attack *attack, char *text, size_t capacity);

/* The network under attack. */
struct victim {
    struct net *net; /* created with NET_INPUT_GRADIENT */
    const struct model *model;
    struct adaptive *adaptive; /* created with gradient; NULL: the net's own lambda */
    int n;                     /* the net's batch */
    double mean[3], std[3];
    float *normalised; /* (n,S,S,3) */
    double *dlambda;   /* (n) */
};
enum status victim_init(struct victim *victim, struct net *net, const struct model *model, int n, const double mean[3],
                        const double std[3]);
void victim_finish(struct victim *victim);         /* accepts zeros */
size_t victim_pixels(const struct victim *victim); /* floats of one image: S * S * 3 */

/* The logits (count,K) of images (count,S,S,3) with values in 0..1; count <= n. */
enum status victim_logits(struct victim *victim, const float *images, const int32_t *labels, int count, float *logits);
/* After victim_logits: dimages (count,S,S,3) = the gradient of the sum of dlogits * logits. held: lambda(x) is
 * constant. */
enum status victim_gradient(struct victim *victim, const float *dlogits, int count, bool held, float *dimages);

/* This rank's images to attack. */
struct attack_set {
    int64_t count;
    float *images; /* (count,S,S,3) in 0..1 */
    int32_t *labels;
    uint64_t *ids;
    float *adversarial; /* the final images, within the ball; NULL: not wanted */
};

struct attack_result {
    int64_t images, clean, robust; /* classified correctly without attack, and still after every restart */
    double seconds;
};

/* Runs an attack on this rank's images. phase is the name for progress; both may be NULL. */
enum status attack_run(struct victim *victim, const struct attack *attack, uint64_t seed, const struct attack_set *set,
                       struct progress *progress, const char *phase, struct attack_result *result);

#endif
