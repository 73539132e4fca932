// The C interface between Python (ctypes, src/reformer/ops/attention/native/library.py) and the kernels.
//
// Nothing here owns memory: every pointer belongs to the caller. Strides count elements; the last axis is contiguous.
#pragma once

#include <cstdint>

#define REFORMER_API __attribute__((visibility("default")))

extern "C" {

// Called now and then by the calling thread; non-zero stops the work (the results are then unusable).
typedef int (*reformer_poll)(void);

enum { REFORMER_OK = 0, REFORMER_INTERRUPTED = 1, REFORMER_NO_MEMORY = 2, REFORMER_BAD_ORDER = 3 };
enum { REFORMER_FLOAT32 = 0, REFORMER_BFLOAT16 = 1 };

// A tensor [batch, heads, length, width].
struct Rows {
  void* data;
  int64_t batch, head, token;  // strides
};

// How the work is run.
struct Run {
  int32_t threads;
  int32_t isa;  // index into reformer_isa_name; -1: the best this processor has
  reformer_poll poll;
};

// Who sees whom. Every token has, in every round, a place, and an interval [start, end) of places that it sees.
// A token's rounds lie together in memory: tokens are visited in any order, and each visit costs a cache line.
struct Plan {
  int64_t rows;            // P: sequences with an order of their own
  int64_t sharing;         // attention rows n = b·H + h that share an order: plan row n / sharing
  int64_t length;          // L
  int32_t rounds;          // R
  int32_t* order;          // [P, R, L] the token at each place
  int32_t* places;         // [P, L, R, 3] of each token: its place, start and end (if wrap, its place only)
  const int32_t* segments; // [batch, L], negative for padding; null: one segment
  int64_t reach_back;      // the farthest place seen before, and after, a token's own
  int64_t reach_ahead;
  // "trax": all rounds end to end in chunks, look-back wraps, a pair counts as often as it is seen.
  int32_t wrap;
  int32_t chunk_len, chunks_before, chunks_after;
};

// What makes the intervals.
struct PlanRequest {
  const void* order;    // [P, R, L]; null: by position
  const void* buckets;  // [P, R, L]; null: one bucket
  int32_t order_bytes, bucket_bytes;  // 4 or 8: int32 or int64
  int64_t batch_sharing;              // plan rows that share a row of segments
  int32_t causal, exclude_self;
  int64_t chunk_len, chunks_before, chunks_after;  // chunk_len 0: no chunks
  int32_t chunks_per_run;                          // chunks are counted from the start of a run, not from place 0
  int64_t window;                                  // 0: none
};

struct Attention {
  int64_t batch, heads, length, key_width, value_width;
  int32_t dtype;         // of q, k, v, grad_out, out (as an input of the backward pass)
  int32_t shared;        // keys are q / ||q||, k is ignored, dq takes the gradient of the keys too
  int32_t causal;        // used by wrap only: intervals say the rest
  int32_t exclude_self;  // i sees itself only when it sees nothing else
  float scale;
  int32_t drop;             // attention dropout is on
  uint32_t drop_seed;       // the folded seed
  uint32_t drop_threshold;  // of 2^24
  float drop_factor;        // 1 / (1 - p)
  Rows q, k, v;
  float* state;         // [N, L, 4] scratch, what a visit of a token needs: see State in kernels.h
  Rows accumulator;     // float32: the forward pass's running sum and its result
  Rows out;             // the result in dtype, for the backward pass
  float* lse;           // [N, L]
  uint8_t* alone;       // [N, L]
  Rows grad_out;
  const float* grad_lse;  // [N, L]
  Rows dq, dk, dv;        // float32, zero on entry
};

struct Hash {
  int64_t batch, heads, length, width;
  int32_t dtype, rounds, factors, columns;  // columns: of one round, half the sum of the factors
  const int32_t* factor;                    // [factors]
  Rows x;
  const float* rotations;  // [H, R, columns, width]
  int64_t* buckets;        // [B, H, R, L]
};

struct Sort {
  int64_t rows, rounds, length;  // rows = B·H
  const void* buckets;           // [rows, R, L]
  int32_t bucket_bytes;
  const int32_t* segments;  // [batch, L], negative for padding, or null
  int64_t sharing;          // rows that share a row of segments
  int64_t* order;           // [rows, R, L]
};

// The next tokens of a generation, and what its cache holds of those before: the token at place p of a row lies in slot
// p % slots. Keys, values and lists are [N, ..] with n = b·H + h.
struct Decode {
  int64_t batch, heads, tokens, slots, key_width, value_width;
  int32_t dtype;         // of q, k, v, keys and values
  int32_t shared;        // keys are q / ||q||, k is ignored
  int32_t exclude_self;  // a token sees itself only when it sees nothing else
  float scale;
  int64_t chunk_len, chunks_before, chunks_after, window;  // chunk_len, window 0: none
  int64_t most_seen;                                       // slots that a token may see, repetitions counted
  int32_t rounds, factors;                                 // rounds 0: seen by position
  int64_t n_buckets, columns;                              // columns: of one round, half the sum of the factors
  const int32_t* factor;                                   // [factors]
  const float* rotations;  // [H, R, key_width, columns], columns filled up with zeros to a multiple of 16
  Rows q, k, v;            // the new tokens
  const uint8_t* is_real;  // [batch, tokens]; null: no padding
  const int64_t* counts;   // [batch] real tokens before
  void *keys, *values;     // [N, slots, width]
  int32_t* buckets;        // [N, R, slots]
  int32_t* previous;       // [N, slots, R] the token before in the same bucket, -1: none
  int32_t* newest;         // [N, R, n_buckets] the last token of each bucket, -1: none
  int32_t* sizes;          // [N, R, n_buckets + 1] a Fenwick tree of the buckets' sizes; null: chunks do not matter
  int32_t* order;          // [N, R, slots] "trax": the token at each place; null: the lists above are used
  float* out;              // [batch, tokens, heads, value_width]
  float* scratch;          // reformer_decode_scratch floats for each thread
};

// The sizes of the structs above, in their order: Python checks that it agrees.
REFORMER_API int32_t reformer_struct_size(int32_t index);
// The name of an instruction set this library holds kernels for, null beyond the last.
REFORMER_API const char* reformer_isa_name(int32_t isa);
// Whether this processor runs it.
REFORMER_API int32_t reformer_isa_runs(int32_t isa);
// 1 if kernels run on the OpenMP pool, 0 if on threads of their own.
REFORMER_API int32_t reformer_uses_openmp(void);

// Floats of scratch memory that each thread needs; the same for all instruction sets.
REFORMER_API int64_t reformer_decode_scratch(const Decode*);
// The new tokens enter the cache one after another, each attending first. The caller adds them to the counts.
REFORMER_API int32_t reformer_decode(const Decode*, const Run*);
// Enters the tokens [0, counts) of each row, whose buckets are there, into empty lists.
REFORMER_API int32_t reformer_link(const Decode*, const Run*);
REFORMER_API int32_t reformer_sort(const Sort*, const Run*);
REFORMER_API int32_t reformer_plan(const PlanRequest*, Plan*, const Run*);
REFORMER_API int32_t reformer_hash(const Hash*, const Run*);
REFORMER_API int32_t reformer_forward(const Attention*, const Plan*, const Run*);
REFORMER_API int32_t reformer_backward(const Attention*, const Plan*, const Run*);
}
