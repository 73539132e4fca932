// The kernels of one instruction set; compiled once for each, with REFORMER_ISA and REFORMER_LANES.

#include "backward.h"
#include "decode.h"
#include "hash.h"

#define REFORMER_NAME_(isa) #isa
#define REFORMER_NAME(isa) REFORMER_NAME_(isa)

namespace reformer {
namespace REFORMER_ISA {

extern const Kernels kernels;
const Kernels kernels = {
    REFORMER_NAME(REFORMER_ISA),
    [](const Attention& a, const Plan& plan) { return std::max(forward_scratch(a, plan), backward_scratch(a, plan)); },
    hash_scratch,
    inverse_norms,
    forward_tile,
    deltas,
    backward_tile,
    backward_alone,
    hash_tile,
    decode_scratch,
    decode_row,
    link_row,
};

}  // namespace REFORMER_ISA
}  // namespace reformer
