/* fit.c: least squares for the two predictions of context.h.
 *
 * The sums are taken in double precision, in a fixed order and without contraction, so every machine finds
 * the same predictor. (A decoder does none of this: it reads the predictor from the file.)
 */
#include "fit.h"

#include <string.h>

typedef struct normal_equations {
    int terms;
    double matrix[MAGNITUDE_TERMS][MAGNITUDE_TERMS], right[MAGNITUDE_TERMS];
} normal_equations;

static void add_sample(normal_equations *n, const double *term, double goal) {
    for (int i = 0; i < n->terms; i++) {
        if (term[i] == 0) continue;
        for (int j = 0; j <= i; j++) n->matrix[i][j] += term[i] * term[j];
        n->right[i] += term[i] * goal;
    }
}

/* Gauss's elimination; a small ridge keeps terms that are never used at 0. */
static void solve(normal_equations *n, double *solution) {
    double trace = 0;
    for (int i = 0; i < n->terms; i++) {
        trace += n->matrix[i][i];
        for (int j = 0; j < i; j++) n->matrix[j][i] = n->matrix[i][j];
    }
    for (int i = 0; i < n->terms; i++) n->matrix[i][i] += 1e-5 * trace / n->terms + 1e-9;
    for (int i = 0; i < n->terms; i++) {
        for (int row = i + 1; row < n->terms; row++) {
            const double factor = n->matrix[row][i] / n->matrix[i][i];
            for (int j = i; j < n->terms; j++) n->matrix[row][j] -= factor * n->matrix[i][j];
            n->right[row] -= factor * n->right[i];
        }
    }
    for (int i = n->terms - 1; i >= 0; i--) {
        double sum = n->right[i];
        for (int j = i + 1; j < n->terms; j++) sum -= n->matrix[i][j] * solution[j];
        solution[i] = sum / n->matrix[i][i];
    }
}

static int8_t in_64ths(double x) {
    x = 64 * x;
    if (x > 127) return 127;
    if (x < -127) return -127;
    return (int8_t)(x < 0 ? -(int)(0.5 - x) : (int)(x + 0.5));
}

/* One pass over the tensor as a coder makes it, collecting samples for one of the two predictions. */
static void collect(normal_equations *n, const predictor *p, const tensor_source *weights, context *c,
                    int of_magnitude) {
    const uint32_t inputs = c->shape.inputs, positions = c->shape.height * c->shape.width;
    context_start(c, p);
    for (uint32_t filter = 0; filter < c->shape.filters; filter++) {
        const size_t own = (size_t)filter * inputs * positions;
        if (is_empty(weights, own, (size_t)inputs * positions)) continue; /* coded without a prediction */
        for (uint32_t position = 0; position < positions; position++) {
            int16_t *row = c->filter + (size_t)position * inputs;
            for (uint32_t i = 0; i < inputs; i++)
                row[i] = weight_at(weights, own + (size_t)i * positions + position);
            const int16_t *near[NEIGHBOURS];
            find_neighbours(c, position, near);
            context_position(c, p, position);
            recent r = recent_start(c, p);
            for (uint32_t i = 0; i < inputs; i++) {
                double term[MAGNITUDE_TERMS] = {0};
                const size_t place = (size_t)position * inputs + i;
                for (int which = 0; which < NEIGHBOURS; which++) {
                    if (near[which] == NULL) continue;
                    term[which] = of_magnitude ? size_of(near[which][i]) : near[which][i];
                }
                if (of_magnitude) {
                    term[NEIGHBOURS] = c->mean_magnitude[place] / 256.0;
                    term[NEIGHBOURS + 1] = r.slow / 256.0;
                    term[NEIGHBOURS + 2] = r.fast / 256.0;
                    term[NEIGHBOURS + 3] = size_of(c->expected[i]) / 256.0;
                    term[NEIGHBOURS + 4] = 4 / 256.0;
                } else {
                    term[NEIGHBOURS] = c->mean_signed[place] / 256.0;
                }
                add_sample(n, term, of_magnitude ? size_of(row[i]) : row[i]);
                (void)predict(&r, c->magnitude[i]);
                remember(&r, row[i]);
            }
            c->slow = r.slow;
            context_learn(c, position, filter);
        }
    }
}

void fit_predictor(predictor *out, const tensor_source *weights, context *scratch) {
    static const normal_equations none;
    double solution[MAGNITUDE_TERMS];
    const kernel_shape *shape = &scratch->shape;
    const size_t count = (size_t)shape->filters * shape->inputs * shape->height * shape->width;
    uint64_t sum = 0;
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < count; i++) sum += (uint64_t)size_of(weight_at(weights, i));
    out->mean = (int32_t)((256 * sum + count / 2) / count);
    normal_equations n = none;
    n.terms = SIGNED_TERMS;
    collect(&n, out, weights, scratch, 0);
    solve(&n, solution);
    for (int i = 0; i < SIGNED_TERMS; i++) out->signed_term[i] = in_64ths(solution[i]);
    n = none;
    n.terms = MAGNITUDE_TERMS;
    collect(&n, out, weights, scratch, 1);
    solve(&n, solution);
    for (int i = 0; i < MAGNITUDE_TERMS; i++) out->magnitude_term[i] = in_64ths(solution[i]);
}
