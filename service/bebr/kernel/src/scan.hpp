// The exact scan: which groups meet which queries, in which order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.hpp"
#include "layout.hpp"
#include "queries.hpp"

namespace bebr {

// Rows to scan: blocked codes and, for dot scores, their gains (float16 bits, one per row; null for hamming).
struct Rows {
    const std::uint32_t* words;
    const std::uint16_t* gains;
    std::size_t count;
};

// What every query of a batch asks for. masks[q] has one bit per row in 16-bit words, or is null: all rows.
template <class Score>
struct Wanted {
    std::size_t queries;
    std::size_t k;
    const std::uint16_t* const* masks;
    const Score* bounds;  // floors or ceilings, one per query, or null: none
};

// Where the results go: (queries, k), best first, ties by ascending row.
template <class Score>
struct Found {
    Score* scores;
    std::int64_t* rows;
};

void dot_top_k(const Kernels& kernels, const Layout& layout, const Rows& rows, const DotQueries& queries,
               const Wanted<float>& wanted, const Found<float>& found);

void hamming_top_k(const Kernels& kernels, const Layout& layout, const Rows& rows, const std::uint8_t* query_codes,
                   const Wanted<std::int32_t>& wanted, const Found<std::int32_t>& found);

}  // namespace bebr
