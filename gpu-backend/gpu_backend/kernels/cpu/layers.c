// A stretch of decoder layers in one call: the threads are woken once, and meet between phases instead of going to sleep.
#include "calls.h"

enum { NUM_PHASES = 12 };

typedef struct {
    const bf16 *attention_norm, *q_norm, *k_norm, *mlp_norm;
    Matrix qkv, output, gate_up, down;
} Layer;

struct Decoder {
    const Layer *layers;
    const float *cos, *sin;
    int64_t hidden_size, intermediate_size;
    float eps;
};

typedef struct {
    float *x, *qkv;
    bf16 *queries;
    Rows normed, mixed, activations;
    const Decoder *decoder;
    bf16 *const *pools;
    const Batch *batch;
    const HeadShape *shape;
    const Adapters *adapters;
    bf16 *reduced;
    long start, stop;
    const Notes *notes;
} LayersJob;

// The residual stream after this many layers, where it is to be noted.
INLINE void phase_note(Member *member, const LayersJob *job, long layer) {
    const Notes *notes = job->notes;
    const long size = job->decoder->hidden_size;
    for (long k = 0; notes && k < notes->num_layers; k++)
        if (notes->layers[k] == layer)
            for (long row, end; take(member, job->batch->num_rows, 0, &row, &end);)
                for (; row < end; row++) memcpy(notes->out + (row * notes->num_layers + k) * size, job->x + row * size, (size_t)size * sizeof(float));
}

static void layers_work(void *data, Member *member) {
    const LayersJob *job = data;
    const Decoder *decoder = job->decoder;
    const long num_rows = job->batch->num_rows;
    for (long index = job->start; index < job->stop; index++) {
        const Layer *layer = decoder->layers + index;
        const Rotation rotation = {decoder->cos, decoder->sin, layer->q_norm, layer->k_norm, decoder->eps};
        const long first = index * NUM_PROJECTIONS;
        const Updates q_k_v = {job->adapters, job->reduced, first + Q_K_V, 3}, output = {job->adapters, job->reduced, first + OUTPUT, 1};
        const Updates gate_up = {job->adapters, job->reduced, first + GATE_UP, 2}, down = {job->adapters, job->reduced, first + DOWN, 1};
        phase_norm(member, &job->normed, job->x, layer->attention_norm, decoder->eps, num_rows);
        phase_reduce(member, &q_k_v, &job->normed, num_rows);
        phase_multiply(member, job->qkv, &job->normed, &layer->qkv, &q_k_v, num_rows, 0);
        phase_rotate(member, job->queries, job->pools[index], job->qkv, &rotation, job->batch, job->shape);
        phase_attend(member, &job->mixed, job->queries, job->pools[index], job->batch, job->shape);
        phase_reduce(member, &output, &job->mixed, num_rows);
        phase_multiply(member, job->x, &job->mixed, &layer->output, &output, num_rows, 1);
        phase_norm(member, &job->normed, job->x, layer->mlp_norm, decoder->eps, num_rows);
        phase_reduce(member, &gate_up, &job->normed, num_rows);
        phase_gate_up(member, &job->activations, &job->normed, &layer->gate_up, &gate_up, num_rows);
        phase_reduce(member, &down, &job->activations, num_rows);
        phase_multiply(member, job->x, &job->activations, &layer->down, &down, num_rows, 1);
        phase_note(member, job, index + 1);
    }
}

// Layers start..stop-1 of the float32 residual stream x (num_rows, hidden_size), in place; `adapters` is NULL where no row has one, `notes` where nothing
// is to be noted on the way. Without x: -> the bytes of scratch that it takes.
long attune_run_layers(float *x, const Decoder *decoder, bf16 *const *pools, const Batch *batch, const HeadShape *shape, const Adapters *adapters,
                       long start, long stop, const Notes *notes, uint8_t *scratch) {
    uint8_t *const base = scratch;
    const long rows = batch->num_rows, width = shape->num_heads * shape->head_dim, kv_width = shape->num_kv_heads * shape->head_dim;
    LayersJob job = {.x = x, .decoder = decoder, .pools = pools, .batch = batch, .shape = shape, .adapters = adapters, .start = start, .stop = stop, .notes = notes};
    job.qkv = carve(&scratch, rows * (width + 2 * kv_width) * (long)sizeof(float));
    job.queries = carve(&scratch, rows * width * (long)sizeof(bf16));
    job.normed = carve_rows(&scratch, rows, decoder->hidden_size);
    job.mixed = carve_rows(&scratch, rows, width);
    job.activations = carve_rows(&scratch, rows, decoder->intermediate_size);
    if (adapters) job.reduced = carve(&scratch, rows * 3 * adapters->max_rank * (long)sizeof(bf16));
    const long num_phases = NUM_PHASES * (stop - start) + (notes ? notes->num_layers : 0);
    if (x) run_team(layers_work, &job, num_phases, rows * decoder->hidden_size * decoder->intermediate_size * (stop - start));
    return scratch - base;
}
